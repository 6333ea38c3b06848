#!/usr/bin/env bash
# A stage of the paper as one command (method 3.3 and 7): stage 1 from a listing of videos to a
# verified corpus with pairs, and its student; later stages from there to the next student.
#
#   bash launch/stage.sh 1 --listing VIDEOS --data CORPUS --out DIR [--config NAME] [--workers N]
#       [--teachers A,B] [--target TABLE --num N [--quotas Q]] [...]
#   bash launch/stage.sh 2 3 --data CORPUS --out DIR [...]
#   bash launch/stage.sh 1 2 3 --dry-run        what all of it costs at the paper's amounts
#
#   steps of stage 1:     [metrics, select,] build, motion, [tokens,] [teachers, votes,] pairs,
#                         verify, train_1, anchors_1, evaluate_1
#   steps of stage N:     relabel_N, train_N, anchors_N, evaluate_N
#
#   --listing VIDEOS  folder, glob or table (.csv, .jsonl, .parquet); local, gs:// or s3://
#   --data CORPUS     corpus folder; every worker must see it, as a file system, under this name
#   --out DIR         all else: metrics, scores, students, costs.csv
#   --config NAME     a % in it stands for the stage (default: ov_7b:paper:%)
#   --workers N       worker processes of Beam and of verify (default: the number of cores)
#   --runner NAME     of prep.sh (default: multi_processing)
#   --processes N     processes that share a job of vqa_jax but training (default: 1)
#   --target TABLE, --num N, --quotas Q    N videos of the listing are selected, see
#                     data_prep/README.md, "Choosing what to prepare"
#   --teachers A,B    teachers that score the files or, where these keep what they look at, the
#                     records: light ones in one viewing size, others by prep.teacher_views
#   --scores TABLES   of further teachers, with commas between
#   --extractor FILE  motion weights (default: the shipped ones)
#   --start STUDENT   where training starts (default: as the configuration says)
#   --warm yes        later stages start from the student before, instead of from there again
#   --skip STEPS      steps to leave out, as train_1,anchors_1,evaluate_1
#   --dry-run         says what the steps cost and prints their commands; starts nothing, and needs
#                     no videos: without --listing the amounts are the paper's
#
# Every step says what it will cost and then what it did. The same command resumes after an
# interruption: what is finished is kept.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$ROOT/launch/jobs.sh"

CONFIG=ov_7b:paper:% LISTING='' DATA='' OUT='' WORKERS=$(nproc) RUNNER=multi_processing PROCESSES=1
TARGET='' NUM='' QUOTAS='' TEACHERS='' SCORES='' EXTRACTOR='' START='' WARM='' SKIP=''
STAGES=()
while [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; do STAGES+=("$1") && shift; done
read_options "--config --listing --data --out --workers --runner --processes --target --num \
  --quotas --teachers --scores --extractor --start --warm --skip" "$@" "${STAGES[@]}"
help="see: bash launch/stage.sh --help"
((${#REST[@]} == ${#STAGES[@]})) || die "not understood: ${REST[*]}" "$help"
if [[ -n $DRY_RUN ]]; then
  DATA=${DATA:-CORPUS} OUT=${OUT:-DIR}
  if [[ -z $LISTING ]]; then TARGET=${TARGET:-TARGET} NUM=${NUM:-285714}; fi
else
  need DATA OUT
  if [[ " ${STAGES[*]} " == *" 1 "* ]]; then need LISTING; fi
fi
if [[ -n $TARGET && -z $NUM ]]; then die "--target needs --num" "$help"; fi
for name in DATA OUT LISTING TARGET EXTRACTOR START; do # workers may have another current folder
  if [[ -n ${!name} && ${!name} != *://* ]]; then declare "$name=$(realpath -m -- "${!name}")"; fi
done
file=${CONFIG%%:*}
if [[ -f $file ]]; then CONFIG=$(realpath -- "$file")${CONFIG#"$file"}; fi
GIVEN=$LISTING LISTING=${LISTING:-LISTING}

# prep ARGUMENTS...: launch/prep.sh with the run's runner and workers.
prep() {
  local options=("$RUNNER" --workers "$WORKERS" --videos "$LISTING")
  if [[ -n $DRY_RUN ]]; then options+=(--dry-run); fi
  bash "$ROOT/launch/prep.sh" "${options[@]}" "$@"
}

# data_prep ARGUMENTS...: a command of it.
data_prep() { do_it "$VENV/bin/python" -m data_prep "$@"; }

# select_inputs: they become the listing.
select_inputs() {
  data_prep select --metrics "$OUT/metrics.parquet" --target "$TARGET" \
    --num "$NUM" --quotas "$QUOTAS" --out "$OUT/selected.csv"
}

# verify_once: a corpus that was found intact is not read again; its manifests hold its hashes.
verify_once() {
  if [[ -z $DRY_RUN ]] && sha256sum --check --status -- "$OUT/verified" 2>/dev/null; then
    say "    $DATA is as it was when it was found intact"
    return
  fi
  data_prep verify "$DATA" --workers "$WORKERS" || return
  if [[ -z $DRY_RUN ]]; then
    sha256sum -- "$DATA"/manifest.json "$DATA"/*_1.json "$DATA"/motion.json >"$OUT/verified"
  fi
}

# has STEP: whether stage 1 has it, by the table of costs.
has() { [[ $TABLE == *"| $1 |"* ]]; }

# add_scores STEP TEACHERS WHAT...: a table of their scores of what is named.
add_scores() {
  local name=$1 teachers=$2
  shift 2
  if [[ -z $teachers ]]; then return; fi
  step "$name" job "$PROCESSES" teachers score --teachers "$teachers" "$@" --out "$OUT/$name"
  SCORES="${SCORES:+$SCORES,}$OUT/$name/scores.parquet"
}

# prepare CONFIG: stage 1 up to its pairs.
prepare() {
  local config=$1 votes='' others='' teacher more=() table tables
  local extractor=()
  if [[ -n $EXTRACTOR ]]; then extractor=(--extractor "$EXTRACTOR"); fi
  if [[ -n $TARGET ]]; then
    step metrics prep --metrics "$OUT/metrics.parquet"
    step select select_inputs
    LISTING=$OUT/selected.csv
  fi
  step build prep --config "$config" --data "$DATA"
  step motion job "$PROCESSES" motion --data "$DATA" "${extractor[@]}"
  if has tokens; then step tokens job "$PROCESSES" tokens "--config=$config" --data "$DATA"; fi
  for teacher in ${TEACHERS//,/ }; do
    if grep -q "^| votes |.* $teacher[, ]" <<<"$TABLE"; then
      votes+=${votes:+,}$teacher
    else
      others+=${others:+,}$teacher
    fi
  done
  add_scores teachers "$others" --videos "$LISTING"
  add_scores votes "$votes" --data "$DATA"
  IFS=, read -ra tables <<<"$SCORES"
  for table in "${tables[@]}"; do more+=(--scores "$table"); done
  step pairs data_prep pairs "--config=$config" --data "$DATA" "${more[@]}"
  step verify verify_once
}

if [[ -z $DRY_RUN ]]; then install_runtime; fi
[[ -x $VENV/bin/python ]] || die "costs are told by $VENV, which is not there yet" \
  "make it: bash launch/test.sh tests/test_errors.py"
quiet_environment
cd -- "$ROOT"
for name in teachers votes; do # of an earlier run of stage 1
  if [[ " ${STAGES[*]} " != *" 1 "* && -f $OUT/$name/scores.parquet ]]; then
    SCORES="${SCORES:+$SCORES,}$OUT/$name/scores.parquet"
  fi
done
for stage in "${STAGES[@]}"; do
  config=${CONFIG//%/$stage}
  COSTS=("--config=$config" --stage "$stage" --teachers "$TEACHERS" --data "$DATA")
  if [[ -n $GIVEN ]]; then COSTS+=(--videos "$GIVEN" --select "${NUM:-0}"); fi
  TABLE=$(run_python data_prep costs "${COSTS[@]}" --quiet)
  printf '%s\n' "stage $stage, $config:" "" "$TABLE" ""
  if [[ $stage == 1 ]]; then prepare "$config"; fi
  options=(--config "$CONFIG" --data "$DATA" --out "$OUT" --processes "$PROCESSES")
  for name in START WARM SCORES SKIP; do
    if [[ -n ${!name} ]]; then options+=("--${name,,}" "${!name}"); fi
  done
  if [[ -n $DRY_RUN ]]; then options+=(--dry-run); fi
  bash "$ROOT/launch/iterate.sh" "${options[@]}" "$stage"
done
