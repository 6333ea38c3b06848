#!/usr/bin/env bash
# The whole loop on one machine: prepare -> train -> evaluate -> relabel -> train again -> evaluate,
# then scores of a few held-out videos and a report.
#
#   bash launch/quickstart.sh [--videos DIR] [--out DIR]
#
#   --videos DIR   folder of videos to learn from (default: scenes are made)
#   --out DIR      where everything is written (default: runs/quickstart in the repository)
#
# Makes its own virtual environment. Every step skips what is finished, so the same command resumes
# after an interruption and is quick the second time.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

CONFIG=quickstart
NUM_SCENES=60
NUM_SCORED=6

# --- arguments -----------------------------------------------------------------------------------
VIDEOS=''
OUT="$ROOT/runs/quickstart"
while (($#)); do
  case $1 in
    --videos | --out)
      [[ -n ${2:-} ]] || die "$1 needs a folder" "bash launch/quickstart.sh $1 DIR"
      if [[ $1 == --videos ]]; then VIDEOS=$2; else OUT=$2; fi
      shift 2
      ;;
    --videos=*) VIDEOS=${1#*=} && shift ;;
    --out=*) OUT=${1#*=} && shift ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown argument: $1" "see: bash launch/quickstart.sh --help" ;;
  esac
done

# --- checks before any work ----------------------------------------------------------------------
if [[ -n $VIDEOS ]]; then
  [[ -d $VIDEOS && -r $VIDEOS ]] || die "--videos: $VIDEOS is not a readable folder"
  VIDEOS=$(realpath -- "$VIDEOS")
  [[ -n $(find -L "$VIDEOS" -type f -print -quit) ]] || die "--videos: $VIDEOS holds no files"
fi
OUT=$(realpath -m -- "$OUT")
if [[ -n $VIDEOS && $OUT/ == "$VIDEOS"/* ]]; then
  die "--out lies inside --videos: the run's own files would be taken for input" \
    "name a folder elsewhere: --out DIR"
fi
mkdir -p -- "$OUT/logs" 2>/dev/null && [[ -w $OUT ]] ||
  die "--out: $OUT cannot be written" "name a folder of yours: --out DIR"
case $(uname -m) in
  x86_64 | amd64 | aarch64 | arm64) ;;
  *) die "$(uname -m) is not supported: the packages exist for x86-64 and ARM64 only" ;;
esac
memory_kb=$(awk '/^MemTotal:/ {print $2}' /proc/meminfo 2>/dev/null || true)
if [[ -n $memory_kb ]] && ((memory_kb < 6 * KB_PER_GB)); then
  say "note: $((memory_kb / KB_PER_GB)) GB of memory; the run may need up to 6 GB"
fi

if command -v flock >/dev/null 2>&1; then
  exec 9>"$OUT/.lock"
  flock -n 9 || die "another quickstart is working in $OUT" "wait for it, or name another --out DIR"
fi

setup_lock
space_env=2 space_out=4
if is_installed runtime "$ROOT/requirements.txt"; then space_env=0; fi
if [[ -f $OUT/corpus/manifest.json ]]; then space_out=1; fi
require_space "$space_env" "$VENV" "the environment" "$space_out" "$OUT" "the run"
install runtime "$ROOT/requirements.txt"
setup_unlock
quiet_environment

# --- steps ---------------------------------------------------------------------------------------
# Beam starts its workers through a shell without quoting the interpreter's path: where that holds a
# space, a link without one stands in for .venv.
PY="$VENV/bin/python"
if [[ $PY == *[!A-Za-z0-9_./+-]* ]]; then
  link=$(mktemp -d)
  trap 'rm -rf -- "$link"' EXIT
  ln -s -- "$VENV" "$link/venv"
  PY="$link/venv/bin/python"
fi
# A step must not go on alone when this script is killed: the rerun would work beside it.
GUARD=()
if command -v setpriv >/dev/null 2>&1 && setpriv --pdeathsig KILL true 2>/dev/null; then
  GUARD=(setpriv --pdeathsig KILL)
fi

cd -- "$ROOT"
TOTAL=15
[[ -z $VIDEOS ]] || TOTAL=$((TOTAL - 1))
STEP=0
GIVEN_VIDEOS=$VIDEOS
# What to type to go on, from any folder.
resume_command() {
  printf 'bash %q' "$ROOT/launch/quickstart.sh"
  [[ -z $GIVEN_VIDEOS ]] || printf ' --videos %q' "$GIVEN_VIDEOS"
  printf ' --out %q' "$OUT"
}
trap 'say ""; say "stopped. The same command resumes: $(resume_command)"; exit 130' INT TERM

# Beam's workers tell much about themselves: that stays in the log. (Progress bars need plain cat.)
SHOW=(cat)
WITHOUT_BEAM=(sed -u -E '/apache_beam|Worker: severity|:__main__:|apitools|native_type_|worker_handlers/d')

# step NAME TITLE MODULE ARGS...: runs `python -m MODULE ARGS`, shown here and kept in logs/NAME.log.
step() {
  local name=$1 title=$2 began=$SECONDS log status
  shift 2
  STEP=$((STEP + 1))
  log="$OUT/logs/$(printf '%02d' "$STEP")-$name.log"
  printf '\n[%d/%d] %s   (%s so far)\n' "$STEP" "$TOTAL" "$title" "$(clock "$SECONDS")"
  printf '$ python -m %s\n' "$*" >"$log"
  "${GUARD[@]}" "$PY" -m "$@" 9>&- 2>&1 | tee -a -- "$log" 9>&- | "${SHOW[@]}" 9>&- &&
    status=0 || status=$?
  if ((status)); then
    {
      printf '\nstep %d/%d failed (exit status %d): %s\n' "$STEP" "$TOTAL" "$status" "$title"
      # A kill signal that nobody sent is nearly always the kernel, out of memory.
      ((status != 137)) || say "it was killed; if not by you, memory ran out: close other programs"
      printf 'its last lines, of %s:\n\n' "$log"
      tr '\r' '\n' <"$log" | grep -v '^[[:space:]]*$' | tail -n 12 | sed 's/^/    /'
      printf '\nfinished steps are kept; the same command resumes:\n  %s\n' "$(resume_command)"
    } >&2
    exit "$status"
  fi
  say "      done in $(clock $((SECONDS - began)))"
}

# train_and_evaluate ITERATION: a student of that iteration, its anchors and its figures.
train_and_evaluate() {
  local run="$OUT/iteration_$1" start=()
  if (($1 > 1)); then start=("--config.train.init_from=$OUT/iteration_$(($1 - 1))/student"); fi
  step "train_$1" "train, iteration $1" vqa_jax train \
    "--config=$CONFIG:$1" --data "$CORPUS" --workdir "$run" "${start[@]}"
  step "anchors_$1" "anchors of student $1" vqa_jax anchors --student "$run/student" --data "$CORPUS"
  step "evaluate_$1" "evaluate student $1 on held-out sources" vqa_jax evaluate \
    --student "$run/student" --data "$CORPUS" --out "$run/evaluation"
}

CORPUS="$OUT/corpus"
# nproc would take OMP_NUM_THREADS, a library setting, for the number of cores.
WORKERS=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 2)
if ((WORKERS > 4)); then WORKERS=4; fi # memory: each worker holds a segment and its versions

say "the whole loop in $OUT"
if [[ -z $VIDEOS ]]; then
  VIDEOS="$OUT/scenes"
  step scenes "make $NUM_SCENES scenes" data_prep scenes \
    --out "$VIDEOS" --num "$NUM_SCENES" --seed 0 --workers "$WORKERS"
fi
# FnApiRunner by name: DirectRunner would first download a binary.
SHOW=("${WITHOUT_BEAM[@]}")
step prepare "prepare: decode, distort, score with the teachers" data_prep build \
  --config "$CONFIG" --videos "$VIDEOS" --data "$CORPUS" \
  -- --runner=FnApiRunner --direct_running_mode=multi_processing "--direct_num_workers=$WORKERS"
SHOW=(cat)
step motion "motion features" vqa_jax motion --data "$CORPUS"
step tokens "what the tower makes of the frames" vqa_jax tokens --config "$CONFIG" --data "$CORPUS"
step votes "scores by the light teachers" vqa_jax teachers score \
  --teachers light_lite0_all,light_lite0_mid,light_lite0_late --data "$CORPUS" --out "$OUT/votes"
VOTES="$OUT/votes/scores.parquet"
step pairs "label pairs" data_prep pairs --config "$CONFIG" --data "$CORPUS" --scores "$VOTES"
train_and_evaluate 1
step relabel "relabel: hard pairs, found with student 1" vqa_jax relabel --config "$CONFIG" \
  --student "$OUT/iteration_1/student" --data "$CORPUS" --iteration 2 --scores "$VOTES"
train_and_evaluate 2

# A few held-out videos, evenly from the table of the corpus.
mapfile -d '' -t SCORED < <("$PY" - "$CORPUS" "$VIDEOS" "$NUM_SCORED" 9>&- <<'PYTHON'
import os, sys
from vqa_jax.corpus.video_table import read_video_table

data, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = read_video_table(data, ("path", "split")).where(split="heldout")
paths = sorted(set(table.column("path")))
for path in paths[:: max(1, -(-len(paths) // count))]:
    sys.stdout.write(os.path.join(root, path) + "\0")
PYTHON
)
((${#SCORED[@]})) || die "no held-out video is listed in $CORPUS/videos.parquet"
step score "score held-out videos" vqa_jax score "${SCORED[@]}" \
  --student "$OUT/iteration_2/student" --csv "$OUT/scores.csv" --json "$OUT/scores.json"
step report "report" vqa_jax report --run "$OUT"

printf '\ndone in %s\n' "$(clock "$SECONDS")"
say "report:  $OUT/report.html"
say "scores:  $OUT/scores.csv"
say "student: $OUT/iteration_2/student"
printf 'score any video:\n  %q -m vqa_jax score VIDEO... --student %q   (in %q)\n' \
  "$VENV/bin/python" "$OUT/iteration_2/student" "$ROOT"
