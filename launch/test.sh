#!/usr/bin/env bash
# Sets up .venv with the test packages and runs the linter and the tests.
#
#   bash launch/test.sh [pytest arguments]      for example: -k thurstone, -m slow, tests/parity
#
# Safe to run twice; the second time installs nothing.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

FILES=("$ROOT/requirements.txt" "$ROOT/tests/requirements.txt")
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

# PyPI's torch for x86-64 Linux brings gigabytes of CUDA libraries that the tests never use: take the
# CPU build (2.13.0+cpu counts as 2.13.0) if its index answers, and PyPI's otherwise.
install_cpu_torch() {
  local pin
  [[ $(uname -sm) == 'Linux x86_64' ]] || return 0
  pin=$(grep -oE '^torch==[0-9.]+' "$ROOT/tests/requirements.txt") || return 0
  say "installing $pin (CPU build, for the tests only)"
  pip_install --no-deps --retries 1 --timeout 20 --extra-index-url "$TORCH_CPU_INDEX" "$pin" ||
    say "no CPU build at hand: PyPI's torch will be used"
}

setup_lock
if ! is_installed tests "${FILES[@]}"; then
  require_space 4 "$VENV" "the test environment"
  make_venv
  install_cpu_torch
  install tests "${FILES[@]}"
fi
setup_unlock
quiet_environment

cd -- "$ROOT"
status=0
"$VENV/bin/python" -m ruff check . || status=1
"$VENV/bin/python" -m ruff format --check . || status=1
"$VENV/bin/python" -m pytest "$@" || status=$?
exit "$status"
