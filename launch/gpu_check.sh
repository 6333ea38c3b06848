#!/usr/bin/env bash
# Does this card compute as the CPU does, and how fast is it? Needs this checkout, Python 3.11 or
# newer with jax, flax, optax, safetensors, tokenizers, torch and transformers, and no network.
#
#     bash launch/gpu_check.sh [--out FILE.json] [--parts A,B] [--small] [--limit SECONDS]
#
# The 0.5B student with random weights: a training step of 4,096 tokens with everything trained, by
# XLA's attention, with the decoder frozen, and in two parts; scores of ten made-up videos, by
# exported programs and in int8, too; step and scores of the same sizes in transformers with SDPA
# and torch.compile; numbers against the CPU's; steps of decoders of 1.5B and 7B. Prints tokens a
# second, MFU and peak memory, and writes everything into one JSON file (default:
# $OUT/gpu_check.json, or ./gpu_check.json). Stops after 470 s at most. --parts takes some of train,
# peer_train, score, peer_score, numbers, train_larger. --small runs it on the CPU, small.
#
# Environment: PYTHON      interpreter with the packages (default: python3)
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m launch.gpu_check "$@"
