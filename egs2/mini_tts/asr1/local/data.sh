#!/usr/bin/env bash
# Makes the synthetic corpus; see local/data.py --help. Run from egs2/mini_tts/asr1.
set -euo pipefail

if [ -f ./path.sh ]; then
    # shellcheck source=/dev/null
    . ./path.sh
fi
# One thread each: data.py forks a process per core itself.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
exec python3 local/data.py "$@"
