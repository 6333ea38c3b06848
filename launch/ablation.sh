#!/usr/bin/env bash
# The paper's table in miniature: rows I to V and controls, several seeds each, and one table of
# means, spreads, intervals over contents and signs. Rows: configs/ablation.py. The same command goes
# on after an interruption; a finished row is a small file in DIR/rows, which is not made again.
#
#   bash launch/ablation.sh --photographs DIR --scores SCORES.csv --data CORPUS --out DIR
#       [--clips DIR] [--inputs DIR] [--seeds 3] [--rows "I II ..."] [TRAINING OPTIONS ...]
#
#   --photographs DIR   rated pictures; a folder in it is a kind. Seed 0 leaves the first kind out of
#                       everything, seed 1 the second, ...; of the others folds are held out
#   --scores FILE       table of human scores: path below DIR, mos
#   --data DIR          corpus that launch/small.sh made of them, tokens included
#   --out DIR           DIR/ablation.md and DIR/ablation.csv, and all that leads there
#   --clips DIR         clips whose simulated versions are put in order, too
#   --lines N           higher ones of them are reduced to so many lines (default: 0, none is)
#   --inputs DIR        what CORPUS was made of: for the row `native`, which needs a corpus of its own
#   --seeds N           runs of a row (default: 3)
#   --rows "NAME ..."   rows (default: all; `native` only with --inputs)
#   TRAINING OPTIONS    as --config.train.optim.total_steps=400, for all rows
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

PHOTOGRAPHS='' SCORES='' DATA='' OUT='' CLIPS='' INPUTS='' SEEDS=3 ROWS='' LINES_MOST=0
while (($#)); do
  case $1 in
    --photographs | --scores | --data | --out | --clips | --inputs) path_option "$@" && shift 2 ;;
    --seeds) SEEDS=${2:-} && shift 2 ;;
    --lines) LINES_MOST=${2:-} && shift 2 ;;
    --rows) ROWS=${2:-} && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    --config.*) break ;;
    *) die "unknown argument: $1" "see: bash launch/ablation.sh --help" ;;
  esac
done
TRAINING=("$@")
[[ -d $PHOTOGRAPHS ]] || die "--photographs: '$PHOTOGRAPHS' is no folder"
[[ -f $SCORES ]] || die "--scores: '$SCORES' is no file"
[[ -f $DATA/tokens.json ]] || die "--data: '$DATA' has no tokens" "python -m vqa_jax tokens"
[[ -n $OUT ]] || die "--out is missing"
[[ $SEEDS =~ ^[1-9][0-9]*$ ]] || die "--seeds: '$SEEDS' is no number from 1 up"
KINDS=()
for folder in "$PHOTOGRAPHS"/*/; do KINDS+=("$(basename -- "$folder")"); done

install_runtime
quiet_environment
cd -- "$ROOT"
PY="$VENV/bin/python"
voting_teachers
ALONE=light_lite0_all # the row of one teacher: the best one, by the folds of its fit
ANCHORS=10

# of_config EXPRESSION: what configs/ablation.py says.
of_config() { "$PY" -c "from configs import ablation; print($1)"; }
KNOWN=$(of_config "' '.join(ablation.ROWS)")
UNSEEN=$(of_config "','.join(ablation.UNSEEN)")
[[ -n $ROWS ]] || ROWS=$KNOWN
for name in $ROWS; do
  [[ " $KNOWN " == *" $name "* ]] || die "--rows: no row '$name'" "there are $KNOWN"
done

step() { "$PY" -m "$@"; }

# --- a world: what students and teachers may know, and what they are asked ------------------------

# part WORLD CORPUS OUT UNSEEN: a corpus under a world's splits, without some simulators.
part() {
  step data_prep split --data "$2" --out "$3" --folds "$1/folds.csv" --heldout 1,2 --plain 2 \
    --without "$4"
}

# world KIND: everything that the rows of a seed share.
world() {
  local kind=$1 here=$OUT/worlds/$1
  [[ ! -f $here/done ]] || return 0
  step launch.ablation pictures --scores "$SCORES" --photographs "$PHOTOGRAPHS" --kind "$kind" \
    --out "$here"
  step vqa_jax teachers fit --scores "$here/rated.csv" --photographs "$PHOTOGRAPHS" \
    --teachers "$VOTING" --out "$here/teachers"
  part "$here" "$DATA" "$here/corpus" "$UNSEEN"
  step vqa_jax teachers score --teachers "$TEACHERS" --weights "$here/teachers" \
    --data "$here/corpus" --folds "$here/teachers/oof.csv" --out "$here/votes"
  step data_prep pairs --config ablation --data "$here/corpus" --scores "$here/votes/scores.parquet"
  step vqa_jax teachers score --teachers "$TEACHERS" --weights "$here/teachers" \
    --videos "$here/asked.csv" --out "$here/asked"
  step vqa_jax choose_anchors --pool "$here/rated.csv" --videos "$PHOTOGRAPHS" --num "$ANCHORS" \
    --out "$here/anchors.csv"
  touch -- "$here/done"
}

# --- corpora of single rows -----------------------------------------------------------------------

# copied FROM TO [NAME ...]: a corpus by links, without the parts that are named.
copied() {
  local from=$1 to=$2 name
  shift 2
  [[ ! -d $to ]] || return 0
  rm -rf -- "$to.new"
  mkdir -p -- "$(dirname -- "$to")"
  cp -al -- "$from" "$to.new"
  for name in "$@"; do rm -rf -- "$to.new/$name"; done
  mv -- "$to.new" "$to"
}

# with_pairs CORPUS ROW TABLE: draws the pairs of iteration 1.
with_pairs() { step data_prep pairs --config "ablation:$2" --data "$1" --scores "$3"; }

# corpus_of ROW SEED: makes the corpus that a row trains on and is asked about; sets CORPUS, and
# TOWER, its tower's option.
corpus_of() {
  local row=$1 seed=$2 kind=${KINDS[$2 % ${#KINDS[@]}]} here before=III number=2
  here=$OUT/worlds/$kind
  local votes=$here/votes/scores.parquet own=$OUT/runs/$row-$seed/corpus
  CORPUS=$own TOWER=()
  case $row in
    permuted)
      copied "$here/corpus" "$own" pairs_1.json vqa_pairs_1
      with_pairs "$own" "$row" "$votes"
      ;;
    one_teacher)
      copied "$here/corpus" "$own" pairs_1.json vqa_pairs_1
      step launch.ablation one --scores "$votes" --teacher "$ALONE" --out "$own/votes.csv"
      with_pairs "$own" "$row" "$own/votes.csv"
      ;;
    no_pretraining)
      copied "$here/corpus" "$own" tokens.json vqa_tokens
      TOWER=("--config.tower=$OUT/tower.safetensors")
      [[ -f $OUT/tower.safetensors ]] ||
        step launch.ablation tower --seed 0 --out "$OUT/tower.safetensors"
      step vqa_jax tokens --config "ablation:$row" --data "$own" "${TOWER[@]}"
      ;;
    native)
      native
      part "$here" "$OUT/native" "$own" "$UNSEEN"
      with_pairs "$own" "$row" "$votes"
      ;;
    without_*)
      part "$here" "$DATA" "$own" "$UNSEEN,$(of_config "','.join(ablation.simulators_of('$row'))")"
      with_pairs "$own" "$row" "$votes"
      ;;
    IV | V | random)
      local from=$here/corpus
      if [[ $row == V ]]; then before=IV number=3 from=$OUT/runs/IV-$seed/corpus; fi
      copied "$from" "$own"
      step vqa_jax relabel --config "ablation:$row" --data "$own" --iteration "$number" \
        --student "$OUT/runs/$before-$seed/train/student" --scores "$votes" \
        "--config.relabel.seed=$seed"
      ;;
    *) CORPUS=$here/corpus ;;
  esac
}

# native: the corpus of native pixels, tokens included.
native() {
  if [[ ! -f $OUT/native/tokens.json ]]; then
    step data_prep build --config ablation:native --videos "$INPUTS" --data "$OUT/native" \
      -- --runner=FnApiRunner --direct_running_mode=multi_processing --direct_num_workers=2
    step vqa_jax motion --data "$OUT/native"
    step vqa_jax tokens --config ablation:native --data "$OUT/native"
  fi
}

# --- a run ------------------------------------------------------------------------------------------

# student ROW SEED: trains it if it is not there; sets CORPUS and TOWER.
student() {
  local row=$1 seed=$2 from=()
  local run=$OUT/runs/$row-$seed
  world "${KINDS[seed % ${#KINDS[@]}]}"
  corpus_of "$row" "$seed"
  [[ ! -f $run/train/student/student.json ]] || return 0
  case $row in
    IV | random | same_steps) from=("--config.train.init_from=$OUT/runs/III-$seed/train/student") ;;
    V) from=("--config.train.init_from=$OUT/runs/IV-$seed/train/student") ;;
  esac
  step vqa_jax train --config "ablation:$row" --data "$CORPUS" --workdir "$run/train" \
    "--config.train.seed=$seed" "--config.train.input.seed=$seed" "${from[@]}" "${TOWER[@]}" \
    "${TRAINING[@]}"
}

# anchored ROW SEED: anchors of its student; fails where that cannot judge.
anchored() {
  local folder=$OUT/runs/$1-$2/train/student
  [[ -f $folder/anchors.json ]] ||
    step vqa_jax anchors --student "$folder" \
      --table "$OUT/worlds/${KINDS[$2 % ${#KINDS[@]}]}/anchors.csv"
}

# before ROW: rows whose students a row goes on from, the first one first.
before() {
  case $1 in
    IV | random | same_steps) printf III ;;
    V) printf 'III IV' ;;
  esac
}

# clips_of ROW: the corpus of clips that fits a row's tower; sets CLIPS_CORPUS, empty for none.
clips_of() {
  CLIPS_CORPUS=''
  if [[ -z $CLIPS || $1 == native ]]; then return; fi
  bash "$ROOT/launch/order.sh" --clips "$CLIPS" --out "$OUT/order" --lines "$LINES_MOST"
  CLIPS_CORPUS=$OUT/order/corpus
  if [[ $1 == no_pretraining ]]; then
    CLIPS_CORPUS=$OUT/order/random
    copied "$OUT/order/corpus" "$CLIPS_CORPUS" tokens.json vqa_tokens
    step vqa_jax tokens --config "ablation:$1" --data "$CLIPS_CORPUS" "${TOWER[@]}"
  fi
}

# run ROW SEED: writes the row's file.
run() {
  local row=$1 seed=$2 kind=${KINDS[$2 % ${#KINDS[@]}]} more=() earlier
  local run=$OUT/runs/$row-$seed target=$OUT/rows/$row.$seed.$kind.csv
  [[ ! -f $target ]] || return 0
  say "--- row $row, seed $seed, without $kind"
  for earlier in $(before "$row"); do
    student "$earlier" "$seed"
    if [[ $row != same_steps ]] && ! anchored "$earlier" "$seed"; then
      say "--- row $row, seed $seed, is left out: the student of $earlier cannot relabel"
      return 0
    fi
  done
  student "$row" "$seed"
  local made=(--student "$run/train/student")
  local asked=("${made[@]}" --world "$OUT/worlds/$kind" --corpus "$CORPUS")
  step launch.ablation ask "${asked[@]}" --data "$CORPUS" --out "$run/evaluation"
  clips_of "$row"
  if [[ -n $CLIPS_CORPUS ]]; then
    step launch.ablation ask "${asked[@]}" --data "$CLIPS_CORPUS" --out "$run/clips"
    more+=(--clips "$run/clips")
  fi
  if [[ -n $INPUTS && ($row == III || $row == native) ]] && anchored "$row" "$seed"; then
    step launch.ablation heights --photographs "$PHOTOGRAPHS" --world "$OUT/worlds/$kind"
    step vqa_jax score "$OUT/worlds/$kind/heights" "${made[@]}" --csv "$run/heights.csv"
    more+=(--heights "$run/heights.csv")
  fi
  step launch.ablation row --world "$OUT/worlds/$kind" --corpus "$CORPUS" \
    --evaluation "$run/evaluation" "${more[@]}" --out "$target"
}

for ((seed = 0; seed < SEEDS; seed++)); do
  kind=${KINDS[seed % ${#KINDS[@]}]}
  world "$kind"
  step launch.ablation teachers --world "$OUT/worlds/$kind" --seed "$seed" --kind "$kind" \
    --scores "$OUT/worlds/$kind/asked/scores.csv" --out "$OUT/rows"
done
for row in $ROWS; do
  if [[ $row == native && -z $INPUTS ]]; then
    say "--- row native is left out: it needs --inputs"
    continue
  fi
  for ((seed = 0; seed < SEEDS; seed++)); do run "$row" "$seed"; done
done
step launch.ablation table --rows "$OUT/rows" --out "$OUT"
say "table: $OUT/ablation.md"
