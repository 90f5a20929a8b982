#!/usr/bin/env bash
# LibriSpeech. `--librispeech DIR` (or LIBRISPEECH= in db.sh): where it is; without it, it is downloaded.
# `--train_parts 100|460|960`: hours of training data. README.md has the rest.
set -euo pipefail

corpus='' parts=960 size='' token_type=phn data_opts='' others=()
while [ $# -gt 0 ]; do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case "${1//-/_}" in # - and _ are the same to progressive.sh; every option has a value
        __librispeech) corpus=$(realpath -e -- "${2:?}") ;;
        __train_parts) parts=${2:?} ;;
        __token_type) token_type=${2:?} ;;
        __local_data_opts) data_opts=${2?} ;; # added to ours
        *) others+=("${@:1:2}") ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
set -- "${others[@]}"

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=/dev/null
. ./db.sh
corpus=${corpus:-${LIBRISPEECH}}
case "${parts}" in
    100) train_set=train_clean_100 size=_100h ;;
    460) train_set=train_clean_460 ;;
    *) train_set=train_960 ;;
esac
labels=(--asr_config "conf/train_progressive_subwords${size}.yaml" --nbpe 5000) word_lm=none
if [ "${token_type}" = phn ]; then
    labels=(--asr_config "conf/train_progressive${size}.yaml" --lexicon data/local/lexicon.txt
        --g2p g2p_en --inference_config conf/decode_lexicon.yaml
        --use_lm true --word_arpa data/local/word_lm.arpa.gz --word_arpa_scale 0.8) word_lm=4-gram
fi

./progressive.sh --corpus librispeech --train_set "${train_set}" --valid_set dev --eval_valid_set false --fs 16000 \
    --test_sets "dev_clean dev_other test_clean test_other" --token_type "${token_type}" "${labels[@]}" \
    --local_data_opts "--train_parts ${parts} --word_lm ${word_lm}${corpus:+ --librispeech $(printf %q "${corpus}")} ${data_opts}" -- \
    "$@"
