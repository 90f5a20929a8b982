#!/usr/bin/env bash
# What stage mbr gains, from one full_sum model: {no mbr; the recipe's mbr; conf/train_progressive_mbr_wide.yaml's, with
# wide lists and a word language model in them}, each decoded without language model, and with it and the internal
# language model's subtraction, scales tuned anew on the validation set for each arm. The full_sum must be there.
# Usage: ./compare_mbr.sh exp/TAG [options of run.sh, those of the training]
set -euo pipefail
exp=${1:?usage: compare_mbr.sh exp/TAG [options of run.sh]}
shift
cd "$(dirname "${BASH_SOURCE[0]}")"
[ -e "${exp}/full_sum/config.yaml" ] || {
    echo "$0: ${exp}: no full_sum stage there; train it first: ./run.sh --stop_stage 6" >&2
    exit 2
}
expdir=$(dirname "${exp}")
tag=$(basename "${exp}")
lm=(--word_arpa train --ngram_order 3)

decode() { # TAG STAGE options: without, and with language model
    local call=(./run.sh "${@:3}" "${lm[@]}" --expdir "${expdir}" --asr_tag "$1" --decode_stages "$2")
    "${call[@]}" --stage 8 --stop_stage 8 --inference_tag beam
    "${call[@]}" --stage 7 --stop_stage 9 --inference_tag beam_lm_ilm --use_lm true --tune_scales true
}

arm() { # NAME CONFIG options
    local options=("${@:3}" --asr_config "$2" --stage_scheduler_conf "{stages: [mbr]}" --init_from "${exp}/full_sum")
    ./run.sh "${options[@]}" "${lm[@]}" --use_lm true --expdir "${expdir}" --asr_tag "${tag}_mbr_$1" \
        --stage 6 --stop_stage 6
    decode "${tag}_mbr_$1" mbr "${options[@]}"
}

decode "${tag}" full_sum "$@"
arm lists conf/train_progressive.yaml "$@"
arm wide conf/train_progressive_mbr_wide.yaml "$@"
