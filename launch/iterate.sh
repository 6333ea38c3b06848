#!/usr/bin/env bash
# Iterations of the method on this machine: relabel -> train -> anchors -> evaluate, each with the
# student of the one before. The corpus and the pairs of iteration 1 must be there (data_prep).
#
#   bash launch/iterate.sh --config FILE --data CORPUS --out DIR [--start STUDENT] [--warm yes]
#       [--processes N] [--scores TABLES] [--skip STEPS] [--dry-run] NUMBER...
#
#   NUMBER           iterations, in order: 1 2 3
#   --config FILE    a % in it stands for the iteration: quickstart:%. Training takes the
#                    pairs of all iterations so far, whatever the file says
#   --data CORPUS    corpus folder
#   --out DIR        students and evaluations are written to DIR/iteration_NUMBER
#   --start STUDENT  where training starts (default: as the configuration says)
#   --warm yes       later iterations start from the student before, instead of from there again
#   --processes N    N processes share relabelling and evaluation (default 1)
#   --scores TABLES  further teachers' scores, for relabelling, with commas between
#   --skip STEPS     steps to leave out, as relabel_2,anchors_2,evaluate_2; what they would have
#                    written must be there if it is needed
#   --dry-run        prints the commands and starts nothing
#
# Every step says what it will cost, and then what it did, see `step` in jobs.sh, and skips what is
# finished: the same command resumes after an interruption.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$ROOT/launch/jobs.sh"

CONFIG='' DATA='' OUT='' START='' WARM='' PROCESSES=1 SCORES='' SKIP=''
read_options "--config --data --out --start --warm --processes --scores --skip" "$@"
need CONFIG DATA OUT
for number in "${REST[@]}"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "iteration $number is not a number from 1 up" \
    "see: bash launch/${0##*/} --help"
done
DATA=$(realpath -m -- "$DATA")
OUT=$(realpath -m -- "$OUT")

# iterate NUMBER: one iteration.
iterate() {
  local number=$1 run="$OUT/iteration_$1" before="$OUT/iteration_$(($1 - 1))/student"
  local config="--config=${CONFIG//%/$1}" datasets='' more=() from=$START i table tables
  # shellcheck disable=SC2034 # `step` reads it
  COSTS=("$config" --stage "$number" --data "$DATA")
  if ((number > 1)); then
    IFS=, read -ra tables <<<"$SCORES"
    for table in "${tables[@]}"; do more+=(--scores "$table"); done
    step "relabel_$number" job "$PROCESSES" relabel "$config" --student "$before" --data "$DATA" \
      --iteration "$number" "${more[@]}"
    if [[ -n $WARM ]]; then from=$before; fi
  fi
  for ((i = 1; i <= number; i++)); do datasets+="'vqa_pairs_$i',"; done
  more=("--config.train.pair_datasets=($datasets)")
  if [[ -n $from ]]; then more+=("--config.train.init_from=$from"); fi
  step "train_$number" job 1 train "$config" --data "$DATA" --workdir "$run" "${more[@]}"
  step "anchors_$number" job 1 anchors --student "$run/student" --data "$DATA"
  step "evaluate_$number" job "$PROCESSES" evaluate --student "$run/student" --data "$DATA" \
    --out "$run/evaluation"
}

if [[ -z $DRY_RUN ]]; then install_runtime; fi
for number in "${REST[@]}"; do iterate "$number"; done
