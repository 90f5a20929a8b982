#!/usr/bin/env bash
# Data preparation of LibriSpeech; see local/data.py --help. Run from egs2/librispeech/asr1.
set -euo pipefail

if [ -f ./path.sh ]; then
    # shellcheck source=/dev/null
    . ./path.sh
fi
exec python3 local/data.py "$@"
