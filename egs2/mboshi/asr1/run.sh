#!/usr/bin/env bash
# Mboshi. `--mboshi DIR|tar` (or MBOSHI= in db.sh): the corpus's repository, or the tar of Ogg Opus files.
# `--token_type bpe` takes 500 subwords. README.md has the rest.
set -euo pipefail

root='' data_opts='' others=()
while [ $# -gt 0 ]; do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case "${1//-/_}" in # - and _ are the same to progressive.sh; every option has a value
        __mboshi) root=$(realpath -e -- "${2:?}") ;;
        __local_data_opts) data_opts=${2?} ;; # added to ours
        *) others+=("${@:1:2}") ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
set -- "${others[@]}"

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=/dev/null
. ./db.sh
root=${root:-${MBOSHI}}

./progressive.sh \
    --corpus mboshi \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --fs 16000 \
    --token_type char \
    --nbpe 500 \
    --asr_config conf/train_progressive.yaml \
    --inference_config conf/decode.yaml \
    --local_data_opts "${root:+--mboshi $(printf %q "${root}")} ${data_opts}" \
    -- \
    "$@"
