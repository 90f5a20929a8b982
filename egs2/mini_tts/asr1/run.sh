#!/usr/bin/env bash
# Synthetic connected digits and commands: the embedded default of `make demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./progressive.sh \
    --corpus mini_tts \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --fs 16000 \
    --token_type char \
    --asr_config conf/train_progressive.yaml \
    --inference_config conf/decode.yaml \
    --train_threads 2 \
    -- \
    "$@"
