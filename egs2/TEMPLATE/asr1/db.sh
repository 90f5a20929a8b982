# shellcheck shell=bash
# Where corpora are on this machine; an empty one is downloaded if its recipe can do that.
# A folder, or the .tar.gz it comes in:
export AN4=${AN4:-}
# The folder with LibriSpeech/, the archives of OpenSLR 12 unpacked:
export LIBRISPEECH=${LIBRISPEECH:-}
