#!/usr/bin/env bash
# Data preparation of Switchboard; see local/data.py --help. Run from egs2/swbd/asr1, as asr.sh does.
# Where the corpora are, db.sh or the environment says; run.sh has options for it.
set -euo pipefail

if [ -f ./path.sh ]; then
    # shellcheck source=/dev/null
    . ./path.sh
fi
if [ "${db_sh_was_read-}" != true ]; then # else by run.sh, whose options go before it
    # shellcheck source=/dev/null
    . ./db.sh
fi

for name in SWBD SWBD_MS98; do
    if [ -z "${!name}" ]; then
        echo "local/data.sh: ${name} is empty; set it in db.sh, or give run.sh --${name,,}" >&2
        exit 2
    fi
done
exec python3 local/data.py --swbd "${SWBD}" --swbd_ms98 "${SWBD_MS98}" \
    --eval2000_audio "${EVAL2000_AUDIO}" --eval2000_text "${EVAL2000_TEXT}" \
    --hub5e01 "${HUB5E01}" --rt03 "${RT03}" \
    --fisher_p1 "${FISHER_P1}" --fisher_p2 "${FISHER_P2}" "$@"
