#!/usr/bin/env bash
# Switchboard, 300 h. Where the corpora are: db.sh, the environment, or --swbd, --swbd_ms98,
# --eval2000_audio, --eval2000_text, --hub5e01, --rt03, --fisher_p1, --fisher_p2 DIR (README.md).
set -euo pipefail

# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/db.sh" # before the options, which go before it
export db_sh_was_read=true               # local/data.sh: not again

token_type=phn others=()
while [ $# -gt 0 ]; do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case "${1//-/_}" in # - and _ are the same to progressive.sh; every option has a value
        __swbd | __swbd_ms98 | __eval2000_audio | __eval2000_text | __hub5e01 | __rt03 | \
            __fisher_p1 | __fisher_p2)
            name=${1#--} name=${name//-/_}
            place=$(realpath -m -- "${2:?}")
            export "${name^^}=${place}" ;;
        __token_type) token_type=${2:?} ;;
        *) others+=("${@:1:2}") ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
set -- "${others[@]}"

cd "$(dirname "${BASH_SOURCE[0]}")"
config=conf/train_progressive_subwords.yaml decoding=(--inference_config conf/decode.yaml)
if [ "${token_type}" = phn ]; then
    config=conf/train_progressive.yaml
    decoding=(--inference_config conf/decode_lexicon.yaml --lexicon data/local/lexicon.txt
        --use_lm true --word_arpa train --ngram_order 4 --word_arpa_scale 0.55)
fi

./progressive.sh --corpus swbd --train_set train_nodup --valid_set train_dev \
    --test_sets "${EVAL2000_AUDIO:+eval2000} ${HUB5E01:+hub5e01} ${RT03:+rt03}" \
    --fs 8000 --token_type "${token_type}" --nbpe 5000 "${decoding[@]}" \
    --lm_train_text data/local/lm_train.txt --asr_config "${config}" -- \
    "$@"
