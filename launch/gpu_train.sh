#!/usr/bin/env bash
# Trains a student on a machine with a card that is at hand for minutes: needs this checkout, one
# packed file of at most 40 MB, Python 3.11 or newer with jax, flax, optax, safetensors, tokenizers
# and scipy, and no network, video tools, grain, TFDS or Beam.
#
#   python -m launch.gpu_train pack --config small --data CORPUS --out FILE.npz     (beforehand, here)
#   bash launch/gpu_train.sh --packed FILE.npz [--out DIR] [--seconds N] [--steps N] [--seed N]
#
#   --packed FILE   a corpus's pairs, motion features and tokens by their principal directions
#   --out DIR       gets student/ and metrics.jsonl, 6 MB in all (default: $OUT, or ./gpu_train)
#   --seconds N     after which the student is written as it is (default: 330)
#   --steps N, --seed N   instead of those of the configuration that the file was packed with
#
# Afterwards, here:  python -m vqa_jax anchors --student DIR/student --table ANCHORS.csv
#
# Environment: PYTHON      interpreter with the packages (default: python3)
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
  exit 0
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m launch.gpu_train train --out "${OUT:-gpu_train}" "$@"
