#!/usr/bin/env bash
# Runs a job on this machine.
#
#   bash launch/local.sh [--processes N] [--dry-run] COMMAND ARGUMENTS
#
#   COMMAND          of python -m vqa_jax: train, evaluate, relabel, motion, teachers score, ...
#   --processes N    N processes share the job's work (default 1). `train` wants one: it uses all
#                    devices of the machine by itself
#   --dry-run        prints the commands and starts nothing
#
# The same command resumes after an interruption. JAX_PLATFORMS=cpu|cuda|tpu chooses the devices.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$ROOT/launch/jobs.sh"

PROCESSES=1
read_options "--processes" "$@"
COMMAND=("${REST[@]}")
if [[ ${COMMAND[0]} == train && $PROCESSES != 1 ]]; then
  die "train uses all devices of a machine in one process" "leave --processes out"
fi

job() { # job I: the command line of process I
  printf '%s\0' "$ROOT/.venv/bin/python" -m vqa_jax "${COMMAND[@]}"
  if ((PROCESSES > 1)); then printf '%s\0' --processes "$PROCESSES" --process "$1"; fi
}

if [[ -z $DRY_RUN ]]; then install_runtime; fi
STARTED=()
trap 'kill "${STARTED[@]}" 2>/dev/null || true' EXIT
trap 'kill -TERM "${STARTED[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < PROCESSES; i++)); do
  mapfile -d '' -t line < <(job "$i")
  if [[ -n $DRY_RUN ]]; then
    show "${line[@]}"
  else
    (cd -- "$ROOT" && exec "${line[@]}") &
    STARTED+=("$!")
  fi
done
failed=0
for pid in "${STARTED[@]}"; do
  while kill -0 "$pid" 2>/dev/null; do wait "$pid" || true; done # a signal ends one wait early
  wait "$pid" || failed=$?
done
exit "$failed"
