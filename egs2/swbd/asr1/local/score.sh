#!/usr/bin/env bash
# Hub5 scoring of an experiment's decodings: local/score.sh EXP [--data_dir DIR] [--scorer ...].
# progressive.sh calls it after its own scoring.
set -euo pipefail

exp=$1
shift
sets=()
for data_set in eval2000 hub5e01 rt03; do
    if compgen -G "${exp}/decode/*/${data_set}/text" >/dev/null; then
        sets+=("${data_set}")
    fi
done
if [ ${#sets[@]} -eq 0 ]; then
    echo "local/score.sh: none of Hub5'00, Hub5'01 and RT03 was decoded"
    exit 0
fi
exec python3 -m espnet_plugin.jobs.score_hub5 --exp "${exp}" --data_dir data --sets "${sets[@]}" "$@"
