"""Running recipes for the study: commands, and the end of what an earlier driver left running."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.study.configuration import write_configuration
from benchmarks.study.units import ROOT, Study, Unit

#: In the environment of everything that a driver starts; names what it was started for.
MARK = "ESPNET_PROGRESSIVE_STUDY"
#: What a recipe makes in its own folder, and the study does not want from there.
_MADE = ("data", "dump", "exp", "downloads", "__pycache__")


def lay_out(study: Study, corpus: str) -> None:
    """Make a folder that stands for the recipe's, whose own outputs stay out of it.

    Raises:
        ValueError: there is no such recipe.
    """
    recipe, folder = study.recipe(corpus), study.folder(corpus)
    if not (recipe / "run.sh").is_file():
        raise ValueError(f"{study.path}: corpora.{corpus}.recipe: {recipe} has no run.sh")
    folder.mkdir(parents=True, exist_ok=True)
    for path in recipe.iterdir():
        link = folder / path.name
        if path.name not in _MADE and not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve() if path.is_symlink() else path)


def corpus_place(study: Study, corpus: str) -> Path:
    """Where a corpus is.

    Raises:
        ValueError: nobody said, or it is not there.
    """
    section = study.corpus(corpus)
    variable = str(section["variable"])
    place = study.places.get(corpus) or (
        Path(os.environ[variable]) if os.environ.get(variable) else None
    )
    if place is None:
        raise ValueError(
            f"where is the corpus {corpus}? Give --corpus {corpus}=PATH, or set {variable}"
        )
    if not place.exists():
        raise ValueError(f"{place}: no such corpus {corpus} (--corpus {corpus}=PATH, {variable})")
    return place.resolve()


def preparation(study: Study, corpus: str, labels: str, jobs: int) -> list[str]:
    """Command of data, labels and statistics, steps 1 to 5."""
    config = study.recipe(corpus) / str(next(a["config"] for a in study.raw["arms"].values()))
    return [
        *_recipe(study, corpus, labels),
        "--asr_config", str(config), "--stop_stage", "5", "--nj", str(jobs),
        *_python(),
    ]  # fmt: skip


def training(study: Study, unit: Unit) -> list[str]:
    """Command of a training on one core, its decoding and its scores, steps 6 to 9."""
    command = [
        *_recipe(study, unit.corpus, unit.labels),
        "--asr_config", str(write_configuration(study, unit)),
        "--asr_exp", f"exp/{unit.name}", "--stage", "6", "--stop_stage", "9",
        "--nj", "1", "--train_threads", "1", *_python(),
    ]  # fmt: skip
    codes, source = study.arm(unit.arm).get("codes"), study.source(unit)
    if not codes or source is None:
        return command
    teacher = str(study.experiment(source) / codes["stage"])
    first = [
        sys.executable, str(ROOT / "benchmarks/study/codes.py"),
        "--teacher", teacher, "--output_dir", str(study.codes(unit)),
        *(["--random"] if codes.get("random") else []),
        *(t for k in ("books", "codes") if k in codes for t in (f"--{k}", str(codes[k]))),
    ]  # fmt: skip
    return ["bash", "-c", f"{shlex.join(first)} && exec {shlex.join(command)}"]


def _recipe(study: Study, corpus: str, labels: str) -> list[str]:
    """What all steps of a recipe are called with."""
    section = study.corpus(corpus)
    options = [*(section.get("options") or []), *(section["labels"][labels].get("options") or [])]
    place = str(corpus_place(study, corpus))
    return ["./run.sh", str(section["option"]), place, *map(str, options)]


def _python() -> list[str]:
    return ["--python", sys.executable]


def start(
    study: Study, corpus: str, name: str, command: list[str], nice: int
) -> subprocess.Popen[bytes]:
    """Start a command in the recipe's stand-in, its output at the end of a log."""
    log = study.work / "log" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # A working tree beside the main one has no environment of its own: run.sh takes this one's.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"PATH": programs, "OMP_NUM_THREADS": "1", MARK: mark(study, name)}
    environment = {**os.environ, **own}
    if nice:
        command = ["nice", "-n", str(nice), *command]
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        file.flush()
        return subprocess.Popen(
            command,
            cwd=study.folder(corpus),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def mark(study: Study, name: str) -> str:
    """What processes started for a unit carry in their environment."""
    return f"{study.work.resolve()}:{name}"


def end(study: Study, name: str | None = None) -> int:
    """Kill what was started for a unit of this study, or for any; returns how many processes.

    A driver that was killed leaves its trainings running; they hold their experiments' locks.
    """
    wanted = f"{MARK}={study.work.resolve()}:{name or ''}"
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone, or somebody else's
            continue
        ours = wanted in variables if name else any(v.startswith(wanted) for v in variables)
        if ours and int(folder.name) != os.getpid():
            try:
                os.kill(int(folder.name), signal.SIGKILL)
                count += 1
            except ProcessLookupError:
                continue
    return count


def tail(study: Study, name: str, lines: int = 3) -> str:
    """The last lines of a unit's log."""
    path = study.work / "log" / f"{name}.log"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return " / ".join(line.strip() for line in text[-lines:] if line.strip())
