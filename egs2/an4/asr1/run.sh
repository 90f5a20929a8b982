#!/usr/bin/env bash
# CMU AN4. `--an4_root DIR|tar.gz` (or AN4= in db.sh): the audio or the cepstra distribution; without
# it, the audio is downloaded. What the copy has decides about the configuration.
set -euo pipefail

root='' data_opts='' others=()
while [ $# -gt 0 ]; do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case "${1//-/_}" in # - and _ are the same to progressive.sh; every option has a value
        __an4_root) root=$(realpath -e -- "${2:?}") ;;
        __local_data_opts) data_opts=${2?} ;; # added to ours
        *) others+=("${@:1:2}") ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
set -- "${others[@]}"

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=/dev/null
. ./db.sh
root=${root:-${AN4}}

./progressive.sh \
    --corpus an4 \
    --train_set train_nodev \
    --valid_set train_dev \
    --test_sets test \
    --fs 16000 \
    --token_type char \
    --asr_config "$(bash asr_config.sh "${root}")" \
    --inference_config conf/decode.yaml \
    --local_data_opts "--mel_channels 26 ${root:+--an4_root $(printf %q "${root}")} ${data_opts}" \
    -- \
    "$@"
