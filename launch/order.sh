#!/usr/bin/env bash
# How a student orders simulated versions of the clips of a folder, by every simulator; whether it
# prefers an original to its copies of CRF 40 and more, and a clip to one of a quarter of its height;
# and how it agrees with VMAF, where the extra `vmaf` is installed. The same command goes on after an
# interruption, and with another student it makes no version again.
#
#   bash launch/order.sh --clips DIR --out DIR [--student DIR] [--seconds N] [--lines N]
#
#   --clips DIR      folder of clips that no student has seen
#   --out DIR        versions in DIR/corpus, figures in DIR/students/NAME/order.json
#   --student DIR    student's folder with anchors, or the name of a shipped one; without it the
#                    versions are made alone
#   --seconds N      of every clip, from its start (default: 2)
#   --lines N        higher clips are reduced to so many lines (default: 0, none is)
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

CLIPS='' OUT='' STUDENT='' SECONDS_EACH=2 LINES_MOST=0
while (($#)); do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --clips | --out) path_option "$@" && shift 2 ;;
    --student | --seconds | --lines)
      [[ -n ${2:-} ]] || die "$1 needs a value" "see: bash launch/order.sh --help"
      case $1 in
        --student) STUDENT=$2 ;;
        --seconds) SECONDS_EACH=$2 ;;
        --lines) LINES_MOST=$2 ;;
      esac
      shift 2
      ;;
    *) die "unknown argument: $1" "see: bash launch/order.sh --help" ;;
  esac
done
[[ -d $CLIPS ]] || die "--clips: '$CLIPS' is no folder"
[[ -n $OUT ]] || die "--out is missing"
if [[ -d $STUDENT ]]; then STUDENT=$(realpath -- "$STUDENT"); fi

install_runtime
quiet_environment
cd -- "$ROOT"
PY="$VENV/bin/python"
VMAF=True
"$PY" -c 'import imageio_ffmpeg' 2>/dev/null || VMAF=False

# --- versions, held out whole -----------------------------------------------------------------------
"$PY" launch/order.py cut --clips "$CLIPS" --out "$OUT" --seconds "$SECONDS_EACH" \
  --lines "$LINES_MOST"
if [[ ! -f $OUT/corpus/tokens.json ]]; then
  "$PY" -m data_prep build --config small --videos "$OUT/cut" --data "$OUT/corpus" \
    --config.prep.heldout_fraction=1.0 --config.prep.segment_seconds=0 "--config.prep.vmaf=$VMAF" \
    -- --runner=FnApiRunner
  "$PY" -m vqa_jax motion --data "$OUT/corpus"
  "$PY" -m vqa_jax tokens --config small --data "$OUT/corpus"
fi
[[ -n $STUDENT ]] || exit 0

# --- a student's answers ----------------------------------------------------------------------------
if [[ -d $STUDENT ]]; then
  HERE=$OUT/students/$(printf '%s' "$STUDENT" | sha256sum | cut -c1-12)
else
  HERE=$OUT/students/$STUDENT
fi
"$PY" -m vqa_jax evaluate --student "$STUDENT" --data "$OUT/corpus" --out "$HERE"
"$PY" -m vqa_jax score "$OUT/cut" "$OUT/quarter" --student "$STUDENT" --csv "$HERE/files.csv"
"$PY" launch/order.py tell --data "$OUT/corpus" --evaluation "$HERE" --scores "$HERE/files.csv" \
  --out "$HERE/order.json"
