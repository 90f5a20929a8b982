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

# has FOLDER: whether the copy at ${root}, an archive or a folder, has audio (wav) or cepstra (feat)
has() {
    if [ -f "${root}" ]; then
        tar -tf "${root}" | awk -v name="(^|/)$1/" '$0 ~ name { found = 1 } END { exit !found }'
    else
        [ -n "$(find -L "${root}" -maxdepth 3 -type d -name "$1" -print -quit)" ]
    fi
}
asr_config=conf/train_progressive.yaml # of cepstra, whose batches count other numbers than samples
if [ -n "${root}" ]; then
    ! has wav || asr_config=conf/train_progressive_audio.yaml
elif [ ! -f data/train_nodev/feats.scp ]; then # downloaded, or to be
    asr_config=conf/train_progressive_audio.yaml
fi

./progressive.sh \
    --corpus an4 \
    --train_set train_nodev \
    --valid_set train_dev \
    --test_sets test \
    --fs 16000 \
    --token_type char \
    --asr_config "${asr_config}" \
    --inference_config conf/decode.yaml \
    --local_data_opts "--mel_channels 26 ${root:+--an4_root $(printf %q "${root}")} ${data_opts}" \
    -- \
    "$@"
