#!/usr/bin/env bash
# asr_config.sh ROOT: the pipeline YAML for the copy of AN4 at ROOT, an archive or a folder; of cepstra (feat/) or of
# audio (wav/), whose batches count samples. ROOT empty: for what is in data/, or will be downloaded.
set -euo pipefail

root=${1?}

has_audio() {
    if [ -f "${root}" ]; then
        tar -tf "${root}" | awk '/(^|\/)wav\// { found = 1 } END { exit !found }'
    else
        [ -n "$(find -L "${root}" -maxdepth 3 -type d -name wav -print -quit)" ]
    fi
}

kind=
if [ -n "${root}" ]; then
    ! has_audio || kind=_audio
elif ! compgen -G "data/*/feats.scp" > /dev/null; then
    kind=_audio
fi
echo "conf/train_progressive${kind}.yaml"
