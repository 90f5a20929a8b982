#!/usr/bin/env bash
# RESULTS.md: the progressive pipeline and the from-scratch baseline, side by side on one core each.
# Usage: ./run_comparison.sh --an4_root DIR|tar.gz [options of progressive.sh]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export OMP_NUM_THREADS=1

./run.sh "$@" --stop_stage 5
./run.sh "$@" --stage 6 --nj 1 --train_threads 1 --asr_config conf/train_progressive.yaml &
progressive=$!
./run.sh "$@" --stage 6 --nj 1 --train_threads 1 --asr_config conf/train_full_sum_only.yaml &
baseline=$!
wait "${progressive}"
wait "${baseline}"
