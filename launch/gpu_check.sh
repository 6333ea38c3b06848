#!/usr/bin/env bash
# Does this card compute as the CPU does, and how fast is it? Needs this checkout, Python 3.11 or
# newer with jax, flax, optax, safetensors, tokenizers, torch and transformers, and no network.
#
#     bash launch/gpu_check.sh [--out FILE.json] [--small] [--limit SECONDS]
#
# The 0.5B student with random weights: one training step of 4,096 tokens with everything trained,
# and scores of ten made-up videos; beside them the same sizes in transformers with SDPA and
# torch.compile. Prints tokens a second, MFU and peak memory, compares numbers with the CPU's, and
# writes everything into one JSON file (default: $OUT/gpu_check.json, or ./gpu_check.json). Stops
# after 350 s at most. --small runs all of it on the CPU at small sizes.
#
# Environment: PYTHON      interpreter with the packages (default: python3)
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m launch.gpu_check "$@"
