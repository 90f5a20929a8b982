"""The dispatcher: every command exists, help costs no import of torch or ESPnet."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin.bin import main
from espnet_plugin.pipeline.launch.programs import program_module

BIN = Path(main.__file__).parent
#: Modules that are no program of their own.
INTERNAL = {"__init__", "main", "preload_client"}


@pytest.mark.parametrize(("room", "table"), [("bin", main.COMMANDS), ("jobs", main.JOBS)])
def test_every_program_is_listed_and_every_entry_is_a_program(
    room: str, table: dict[str, str]
) -> None:
    found = {path.stem: path for path in (BIN.parent / room).rglob("*.py")}
    assert {name.replace("-", "_") for name in table} == found.keys() - INTERNAL
    for name in found.keys() - INTERNAL:
        assert "def main(" in found[name].read_text(), name
        path = found[name].relative_to(BIN.parent).with_suffix("")
        assert program_module(name) == ".".join(["espnet_plugin", *path.parts])


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in main.COMMANDS)
    assert not any(f"  {name} " in out for name in main.JOBS)
    assert main.main(["--help-all"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in [*main.COMMANDS, *main.JOBS])
    assert main.main([]) == 2


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["trian"]) == 2
    assert "unknown command 'trian'" in capsys.readouterr().err


def test_arguments_and_status_go_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["espnet-progressive"])
    assert main.main(["status", "--exp", str(tmp_path)]) == 2
    assert "no pipeline has begun" in caplog.text
    with pytest.raises(SystemExit) as stop:
        main.main(["status", "--nonsense"])
    assert stop.value.code == 2


def test_pipeline_programs_start_without_torch_and_espnet() -> None:
    names = ["main", "train", "status", "decode_stages", "collect_stats", "format_data"]
    modules = [program_module(name) for name in names]
    code = "import sys\n" + "".join(f"import {module}\n" for module in modules)
    code += "sys.exit('torch' in sys.modules or 'espnet2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=BIN.parents[1]).returncode == 0
    assert importlib.import_module("espnet_plugin.bin.train")
