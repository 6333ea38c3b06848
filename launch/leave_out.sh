#!/usr/bin/env bash
# Leaves one kind of rated photographs out at a time: teachers, mix, student and anchors know the
# other kinds alone, and the student and its teachers are then asked about the kind that none of them
# saw. The same command goes on after an interruption.
#
#   bash launch/leave_out.sh --photographs DIR --scores SCORES.csv --data CORPUS --out DIR \
#       [--seeds "0 1 2"] [TRAINING OPTIONS ...]
#
#   --photographs DIR   pictures; a folder in it is a kind
#   --scores FILE       table of human scores: path below DIR, mos
#   --data DIR          corpus that launch/small.sh made of them, tokens included
#   --out DIR           everything of a kind in DIR/KIND, its figures in DIR/KIND/agreement.txt
#   --seeds "N ..."     of the students
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

PHOTOGRAPHS='' SCORES='' DATA='' OUT='' SEEDS='0 1 2'
while (($#)); do
  case $1 in
    --photographs | --scores | --data | --out) path_option "$@" && shift 2 ;;
    --seeds) SEEDS=${2:-} && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    --config.*) break ;;
    *) die "unknown argument: $1" "see: bash launch/leave_out.sh --help" ;;
  esac
done
[[ -d $PHOTOGRAPHS ]] || die "--photographs: '$PHOTOGRAPHS' is no folder"
[[ -f $SCORES ]] || die "--scores: '$SCORES' is no file"
[[ -f $DATA/tokens.json ]] || die "--data: '$DATA' has no tokens" "python -m vqa_jax tokens"
[[ -n $OUT ]] || die "--out is missing"

install_runtime
quiet_environment
cd -- "$ROOT"
voting_teachers

step() { "$VENV/bin/python" -m "$@"; }

for folder in "$PHOTOGRAPHS"/*/; do
  kind=$(basename -- "$folder")
  here=$OUT/$kind
  mkdir -p -- "$here"
  awk -v kind="$kind/" 'NR == 1 || index($0, kind) != 1' "$SCORES" > "$here/rated.csv"
  awk -v kind="$kind/" 'NR == 1 || index($0, kind) == 1' "$SCORES" > "$here/asked.csv"
  step vqa_jax teachers fit --scores "$here/rated.csv" --photographs "$PHOTOGRAPHS" \
    --teachers "$VOTING" --out "$here/teachers"
  if [[ ! -d $here/corpus ]]; then # the same files, other pairs
    rm -rf -- "$here/copy"
    cp -al -- "$DATA" "$here/copy"
    rm -rf -- "$here"/copy/pairs_*.json "$here"/copy/vqa_pairs_*
    mv -- "$here/copy" "$here/corpus"
  fi
  step vqa_jax teachers score --teachers "$TEACHERS" --weights "$here/teachers" \
    --data "$here/corpus" --folds "$here/teachers/oof.csv" --out "$here/votes"
  # Sources of the kind have no vote, and are in no pair.
  step data_prep pairs --config small --data "$here/corpus" \
    --scores "$here/votes/scores.parquet" --config.pairs.voted_only=True
  step vqa_jax choose_anchors --pool "$here/rated.csv" --videos "$PHOTOGRAPHS" --num 20 \
    --out "$here/anchors.csv"
  step vqa_jax teachers score --teachers "$TEACHERS" --weights "$here/teachers" \
    --videos "$PHOTOGRAPHS/$kind" --out "$here/asked"
  tables=()
  for seed in $SEEDS; do
    student=$here/seed$seed/student
    step vqa_jax train --config small --data "$here/corpus" --workdir "$here/seed$seed" \
      "--config.train.seed=$seed" "--config.train.input.seed=$seed" "$@"
    step vqa_jax anchors --student "$student" --table "$here/anchors.csv"
    step vqa_jax score "$PHOTOGRAPHS/$kind" --student "$student" --csv "$here/seed$seed.csv"
    tables+=(--scores "$here/seed$seed.csv")
  done
  "$VENV/bin/python" launch/people.py --labels "$here/asked.csv" --pictures "$PHOTOGRAPHS" \
    "${tables[@]}" --scores "$here/asked/scores.csv" --runs "$here/runs.txt" \
    | tee "$here/agreement.txt"
done
