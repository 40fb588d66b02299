#!/usr/bin/env bash
# The whole controlled experiment: train a zoo, measure and judge every study of it. What is there already is kept.
#   studies/zoo.sh cpu              two cores, under two hours
#   studies/zoo.sh gpu cuda         one GPU; all families
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu} device=${2:-cpu}
zoo=zoo; [ "$preset" = gpu ] && zoo=zoo-gpu

OMP_NUM_THREADS=1 python studies/zoo_train.py --preset "$preset" --out "exitbench-out/$zoo" --device "$device" "${@:3}"
judged=()
for spec in studies/"$zoo"/*.yaml; do
  name=$(sed -n 's/^name: //p' "$spec")
  [ "$name" = real-models ] && python studies/control_models.py --out exitbench-out/controls
  exitbench study "$spec" --out "exitbench-out/study-$name"
  grep -q '^finding:' "$spec" && judged+=("exitbench-out/study-$name")
done
exitbench findings "${judged[@]}"
