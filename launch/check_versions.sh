#!/usr/bin/env bash
# Do other versions of the packages do? Each mode makes a fresh virtual environment, installs this
# checkout into it, and leaves this checkout's .venv alone. Needs no graphics card.
#
#     bash launch/check_versions.sh newest [OPTIONS] [-- PYTEST ARGUMENTS]
#         the newest versions that the ranges of pyproject.toml allow; runs the whole test suite
#     bash launch/check_versions.sh lowest [OPTIONS] [-- PYTEST ARGUMENTS]
#         the lower bounds of what scoring needs, with whatever fits of what tests need besides;
#         runs the tests of scoring
#     bash launch/check_versions.sh beside [OPTIONS] CLIP...
#         "transformers<5" "numpy<2.3" "av<18", as pipelines that curate videos pin them, beside
#         this package; its scores of the clips must be those of an environment without, to 1e-3
#
# Options: --python PATH   interpreter to make environments with (default: python3)
#          --root FOLDER   run inside this system instead (needs root): one of
#                debootstrap --variant=minbase --include=python3,python3-venv,python3-torch,g++,git,ca-certificates \
#                  trixie FOLDER http://deb.debian.org/debian
#              which is Debian 13 with Python 3.13. The clips of `beside` lie below this checkout
#          --work FOLDER   where environments are made and kept (default: a temporary folder)
#
# The tests compare with torch. An interpreter that has one (python3-torch) lends it; otherwise pip
# installs one, on x86-64 Linux with some GB of CUDA. PIP_* as pip reads them.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$ROOT/launch/setup.sh"
# What has to hold at the lower bounds: from a file to a score, by command and by call.
SCORING_TESTS=(tests/media tests/models tests/scoring tests/test_install.py tests/test_loading.py
  tests/test_shipped.py)

MODE=${1:-}
case $MODE in
  newest | lowest | beside) shift ;;
  -h | --help) usage; exit 0 ;;
  *) die "${MODE:-no mode} is not newest, lowest or beside" "bash launch/check_versions.sh --help" ;;
esac
PYTHON=python3 SYSTEM='' WORK='' REST=()
while (($#)); do
  case $1 in
    --python | --root | --work)
      [[ -n ${2:-} ]] || die "$1 needs a value" "bash launch/check_versions.sh --help"
      case $1 in --python) PYTHON=$2 ;; --root) SYSTEM=$2 ;; --work) WORK=$2 ;; esac
      shift 2 ;;
    --) shift; REST+=("$@"); break ;;
    -*) die "unknown option $1" "bash launch/check_versions.sh --help" ;;
    *) REST+=("$1"); shift ;;
  esac
done
[[ $MODE != beside || ${#REST[@]} -gt 0 ]] || die "beside needs clips to score" "beside CLIP..."

# in_system FOLDER: this script again, inside another system that sees this checkout and what lies
# beside it. Mounts are of this process alone and vanish with it.
in_system() {
  local system
  system=$(cd -- "$1" && pwd) || die "$1 is not a folder" "make one: see --help"
  shift
  local inside=/checkout/$(basename -- "$ROOT")
  mkdir -p "$system$inside" "$system/etc/ssl/certs"
  cp -L /etc/resolv.conf "$system/etc/resolv.conf"
  cp -L /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/"
  if [[ -e /etc/pip.conf ]]; then cp -L /etc/pip.conf "$system/etc/pip.conf"; fi
  export ROOT MODE PYTHON system inside
  exec unshare --mount bash -c '
    set -e
    mount -t proc proc "$system/proc"
    mount --rbind /dev "$system/dev"
    mount --bind "$ROOT" "$system$inside"
    if [[ -d $ROOT/../shared ]]; then
      mkdir -p "$system/checkout/shared"
      mount --bind -o ro "$ROOT/../shared" "$system/checkout/shared"
    fi
    exec chroot "$system" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
      PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
      bash "$inside/launch/check_versions.sh" "$MODE" --python "$PYTHON" "$@"' check_versions "$@"
}
if [[ -n $SYSTEM ]]; then
  in_system "$SYSTEM" ${WORK:+--work "$WORK"} -- ${REST[@]+"${REST[@]}"}
fi

if [[ -z $WORK ]]; then
  WORK=$(mktemp -d)
  trap 'rm -rf -- "$WORK"' EXIT
fi

# fresh NAME [VENV OPTIONS]: an empty environment, which becomes VENV.
fresh() {
  VENV=$WORK/$1
  "$PYTHON" -m venv --clear "${@:2}" "$VENV" || die "$PYTHON -m venv failed: see above" \
    "sudo apt install python3-venv"
}

# bounds: the requirements of scoring, each at its lower bound.
bounds() {
  "$VENV/bin/python" - "$ROOT/pyproject.toml" <<'PYTHON'
import sys
import tomllib

with open(sys.argv[1], "rb") as f:
    requirements = tomllib.load(f)["project"]["dependencies"]
for requirement in requirements:
    name, _, rest = requirement.partition(">=")
    bound, semicolon, marker = rest.partition(";")
    print(f"{name.strip()}=={bound.split(',')[0].strip()}{semicolon}{marker}")
PYTHON
}

# unpinned FILE: its requirements without versions; torch is left out if the system lends one.
unpinned() {
  sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/\1/p' "$1" | { if [[ -n $LENT ]]; then grep -vx torch; else cat; fi; }
}

versions() {
  "$VENV/bin/python" --version
  "$VENV/bin/python" -m pip list --format=freeze 2>/dev/null |
    grep -E '^(jax|flax|numpy|av|transformers|tokenizers|apache-beam|grain|pillow|scipy)==' | paste -sd' '
}

run_tests() { (cd "$ROOT" && JAX_PLATFORMS=cpu "$VENV/bin/python" -m pytest -p no:cacheprovider "$@"); }

newest() {
  LENT=''
  if "$PYTHON" -c 'import torch' 2>/dev/null; then LENT=--system-site-packages; fi
  fresh newest $LENT
  # What the system lends besides torch is older: everything else is taken anew.
  local extra
  mapfile -t extra < <(unpinned "$ROOT/tests/requirements.txt")
  pip_install --upgrade --upgrade-strategy eager setuptools "$ROOT[all]" "${extra[@]}"
  versions
  run_tests "$@"
}

lowest() {
  fresh lowest
  local exact
  mapfile -t exact < <(bounds)
  # Beam takes no pyarrow of 19 or no Pillow below 12: without `prep`.
  pip_install "$ROOT[train,serve,report]" "${exact[@]}" pytest
  versions
  run_tests "${SCORING_TESTS[@]}" "$@"
}

# scores OUT CLIP...: scores of clips by the environment's own command.
scores() { (cd "$WORK" && JAX_PLATFORMS=cpu "$VENV/bin/vqa_jax" score --quiet --json "$@"); }

beside() {
  local clips clip
  for clip in "$@"; do clips+=("$(realpath -- "$clip")"); done
  fresh alone
  pip_install "$ROOT"
  versions
  scores "$WORK/alone.json" "${clips[@]}"
  fresh beside
  pip_install "$ROOT" 'transformers<5' 'numpy<2.3' 'av<18'
  versions
  scores "$WORK/beside.json" "${clips[@]}"
  "$VENV/bin/python" - "$WORK/alone.json" "$WORK/beside.json" <<'PYTHON'
import json
import sys

alone, beside = (json.load(open(path)) for path in sys.argv[1:])
rows = list(zip(alone, beside, strict=True))
worst = max(abs(a["score"] - b["score"]) for a, b in rows)
print(f"{len(rows)} clips, largest difference of a score {worst:.1e}")
sys.exit(worst > 1e-3)
PYTHON
}

"$MODE" ${REST[@]+"${REST[@]}"}
