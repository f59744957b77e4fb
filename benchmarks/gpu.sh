#!/usr/bin/env bash
# A slice of each large recipe on one GPU: bash benchmarks/gpu.sh [OUT]
#
# Each recipe trains for SECONDS_EACH seconds (40, compilation included) on 1,024 generated pictures of 256 px in ten
# classes, then the next one. OUT (outputs/gpu) gets a folder for each, and table.md: images/s (the median of the logged
# steps after the first quarter), peak memory, versions, the last sample grids beside. Eleven recipes take about ten
# minutes. Environment: PYTHON, SECONDS_EACH, TRAINER (gpu; cpu tries the script itself), MORE (further overrides).
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-outputs/gpu}
PYTHON=${PYTHON:-python}
SECONDS_EACH=${SECONDS_EACH:-40}
TRAINER=${TRAINER:-gpu}
mkdir -p "$OUT"
"$PYTHON" benchmarks/gpu_slices.py pictures "$OUT/pictures"
failed=0
while read -r name overrides; do
    [ -z "$name" ] && continue
    echo "$name: $overrides"
    # shellcheck disable=SC2086
    "$PYTHON" train.py $overrides data=folder "data.root=$OUT/pictures" data.flip=true "trainer=$TRAINER" logger=csv \
        log_every=10 trainer.enable_progress_bar=false "trainer.max_time=00:00:00:$SECONDS_EACH" "folder=$OUT/$name" \
        ${MORE:-} > "$OUT/$name.log" 2>&1 || { failed=1; tail -3 "$OUT/$name.log"; }
done < <("$PYTHON" benchmarks/gpu_slices.py recipes)
"$PYTHON" benchmarks/gpu_slices.py table "$OUT"
exit $failed
