#!/usr/bin/env bash
# RESULTS.md, language models: {none, word 3-gram, 3-gram and internal-LM subtraction} in label-level and
# lexicon search with the last train stage; the 3-gram is one of the training transcripts, scales are
# tuned on the validation set.
# Usage: ./run_lm.sh [the options of the training: --token_type phn --lexicon data/local/lexicon.txt ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for config in decode decode_lexicon; do
    search=${config#decode}
    decode=(./run.sh "$@" --stage 7 --stop_stage 8 --decode_stages final
        --inference_config "conf/${config}.yaml")
    lm=(--use_lm true --word_arpa train --ngram_order 3 --tune_scales true)
    "${decode[@]}" --inference_tag "beam${search}"
    "${decode[@]}" --inference_tag "beam${search}_lm" "${lm[@]}" --ilm_grid 0
    "${decode[@]}" --inference_tag "beam${search}_lm_ilm" "${lm[@]}"
done
./run.sh "$@" --stage 9 --stop_stage 9
