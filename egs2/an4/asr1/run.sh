#!/usr/bin/env bash
# CMU AN4. `--an4_root DIR|tar.gz` (or AN4= in db.sh): the audio or the cepstra distribution; without
# it, the audio is downloaded.
set -euo pipefail

root=
others=()
while [ $# -gt 0 ]; do
    case "$1" in
        --an4_root) root=$(realpath -e -- "${2:?}"); shift 2 ;;
        *) others+=("$1"); shift ;;
    esac
done
set -- "${others[@]}"

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=/dev/null
. ./db.sh
root=${root:-${AN4}}

./progressive.sh \
    --train_set train_nodev \
    --valid_set train_dev \
    --test_sets test \
    --fs 16000 \
    --token_type char \
    --asr_config conf/train_progressive.yaml \
    --inference_config conf/decode.yaml \
    --local_data_opts "--mel_channels 26 ${root:+--an4_root $(printf %q "${root}")}" \
    -- \
    "$@"
