#!/usr/bin/env bash
# Makes the shipped small student from photographs with human scores, step by step; the same command
# goes on after an interruption.
#
#   bash launch/small.sh --photographs DIR --scores SCORES.csv --out DIR
#
#   --photographs DIR   pictures; a folder in it is a kind
#   --scores FILE       table of human scores: path below DIR, mos
#   --out DIR           corpus, teachers, training and, in DIR/train/student, the student
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

PHOTOGRAPHS='' SCORES='' OUT=''
while (($#)); do
  case $1 in
    --photographs | --scores | --out) path_option "$@" && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown argument: $1" "see: bash launch/small.sh --help" ;;
  esac
done
[[ -d $PHOTOGRAPHS ]] || die "--photographs: '$PHOTOGRAPHS' is no folder"
[[ -f $SCORES ]] || die "--scores: '$SCORES' is no file"
[[ -n $OUT ]] || die "--out is missing"

install_runtime
quiet_environment
cd -- "$ROOT"
PY="$VENV/bin/python"
WORKERS=2
voting_teachers
mkdir -p -- "$OUT/inputs"

# --- content: the stills themselves, parts of them, clips of a sixth, scenes ------------------------
for kind in "$PHOTOGRAPHS"/*/; do
  ln -sfn -- "$kind" "$OUT/inputs/$(basename -- "$kind")"
done
mkdir -p -- "$OUT/sixth" "$OUT/inputs/parts" "$OUT/inputs/clips" "$OUT/inputs/scenes"
# On the photographs themselves a student is better than its teachers, on others not: more to see.
"$PY" -m data_prep parts --out "$OUT/parts" --photographs "$PHOTOGRAPHS" --workers "$WORKERS"
ln -sf -- "$OUT"/parts/*.png "$OUT/inputs/parts/"
find -L "$PHOTOGRAPHS" -type f -name '*.jpg' | sort | awk 'NR % 6 == 3' | while read -r file; do
  ln -sf -- "$file" "$OUT/sixth/$(basename -- "$file")"
done
# Clips with objects show other photographs too, which the teachers of a fold may have seen.
"$PY" -m data_prep clips --out "$OUT/clips" --photographs "$OUT/sixth" --seconds 1 \
  --short_side 512 --seed 3 --moves static,pan,zoom,shake --workers "$WORKERS"
for file in "$OUT"/clips/clip_*.mp4; do
  name=$(basename -- "$file")
  ln -sf -- "$file" "$OUT/inputs/clips/${name#clip_}" # as the photograph is called: its fold counts
done
"$PY" -m data_prep scenes --out "$OUT/scenes" --num 100 --seed 7 --photos "$PHOTOGRAPHS" \
  --size 672x512 --seconds 3 --workers "$WORKERS"
ln -sf -- "$OUT"/scenes/*.mp4 "$OUT/inputs/scenes/"

# --- teachers, corpus, votes ------------------------------------------------------------------------
"$PY" -m vqa_jax teachers fit --scores "$SCORES" --photographs "$PHOTOGRAPHS" --out "$OUT/teachers"
"$PY" -m data_prep build --config small --videos "$OUT/inputs" --data "$OUT/corpus" \
  -- --runner=FnApiRunner --direct_running_mode=multi_processing "--direct_num_workers=$WORKERS"
"$PY" -m vqa_jax motion --data "$OUT/corpus"
"$PY" -m vqa_jax tokens --config small --data "$OUT/corpus"

# pairs HERE: HERE/corpus gets the votes of HERE/teachers, and pairs.
pairs() {
  "$PY" -m vqa_jax teachers score --teachers "$TEACHERS" --weights "$1/teachers" \
    --data "$1/corpus" --folds "$1/teachers/oof.csv" --out "$1/votes"
  "$PY" -m data_prep pairs --config small --data "$1/corpus" --scores "$1/votes/scores.parquet"
}
pairs "$OUT"

# --- student and anchors ------------------------------------------------------------------------------
SCALE=$(basename -- "$SCORES") # by whose name the scale is called

# student HERE POOL: trains HERE/train/student, and gives it anchors out of the table POOL.
student() {
  "$PY" -m vqa_jax train --config small --data "$1/corpus" --workdir "$1/train"
  mkdir -p -- "$1/anchors"
  "$PY" -m vqa_jax choose_anchors --pool "$2" --videos "$PHOTOGRAPHS" --num 40 \
    --out "$1/anchors/$SCALE"
  "$PY" -m vqa_jax anchors --student "$1/train/student" --table "$1/anchors/$SCALE"
}
student "$OUT" "$SCORES"

# --- how far people are from it: asked about two folds of ten, which nobody in this part knows ------
UNKNOWN="$OUT/unknown"
RATED="$UNKNOWN/rated/$SCALE"
mkdir -p -- "$UNKNOWN/rated"
awk -F, 'NR > 1 && $2 >= 8 { print $1 }' "$OUT/teachers/oof.csv" > "$UNKNOWN/names"
while read -r name; do
  mkdir -p -- "$UNKNOWN/pictures/$(dirname -- "$name")"
  ln -sf -- "$PHOTOGRAPHS/$name" "$UNKNOWN/pictures/$name"
done < "$UNKNOWN/names"
grep -v -F -f "$UNKNOWN/names" "$SCORES" > "$RATED"
# Teachers of their own: votes of the others would tell what people think of the two folds.
"$PY" -m vqa_jax teachers fit --scores "$RATED" --photographs "$PHOTOGRAPHS" \
  --teachers "$VOTING" --out "$UNKNOWN/teachers"
"$PY" -m data_prep split --data "$OUT/corpus" --out "$UNKNOWN/corpus" \
  --folds "$OUT/teachers/oof.csv" --heldout 8,9
pairs "$UNKNOWN"
student "$UNKNOWN" "$RATED"
"$PY" -m vqa_jax score "$UNKNOWN/pictures" --student "$UNKNOWN/train/student" \
  --csv "$UNKNOWN/asked.csv"
"$PY" -m vqa_jax calibrate --student "$OUT/train/student" --scores "$UNKNOWN/asked.csv" \
  --labels "$SCORES"
say "student: $OUT/train/student"
