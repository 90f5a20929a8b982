#!/usr/bin/env bash
# Data preparation of Mboshi; see local/data.py --help. Run from egs2/mboshi/asr1, as asr.sh does.
set -euo pipefail

if [ -f ./path.sh ]; then
    # shellcheck source=/dev/null
    . ./path.sh
fi
exec python3 local/data.py "$@"
