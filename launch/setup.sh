# shellcheck shell=bash
# Shared by quickstart.sh and test.sh, which source it: the checks before work, and the virtual
# environment. Defines functions only. `ROOT` must hold the repository's absolute path.
#
# Environment: PYTHON      interpreter to make .venv with (default: the first that fits)
#              PIP_*       as pip reads them (index, proxy, cache)

VENV="$ROOT/.venv"
KB_PER_GB=$((1024 * 1024))

say() { printf '%s\n' "$*"; }

# usage: the head of the script that runs.
usage() { sed -n '2,/^set /{/^set /d;/^#SBATCH/d;s/^# \{0,1\}//p}' "$0"; }

# path_option --NAME PATH: sets NAME, in capitals, to where the path leads.
path_option() {
  [[ -n ${2:-} ]] || die "$1 needs a value" "bash launch/${0##*/} $1 PATH"
  local name=${1#--}
  declare -g "${name^^}=$(realpath -m -- "$2")"
}

# voting_teachers: sets VOTING, who labels the small student's pairs, and TEACHERS, the same once fitted.
# Of all seven they agree best with people, pooled and within kinds, over the folds of the fit.
voting_teachers() {
  declare -g VOTING=lite0_all,lite0_mid,lite0_late
  declare -g TEACHERS=light_${VOTING//,/,light_}
}

# die MESSAGE REMEDY...: what is wrong, then how to put it right.
die() {
  printf '\nerror: %s\n' "$1" >&2
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# Seconds -> 1:02:03 or 2:03.
clock() {
  local hours=$(($1 / 3600)) minutes=$(($1 / 60 % 60)) seconds=$(($1 % 60))
  if ((hours)); then
    printf '%d:%02d:%02d' "$hours" "$minutes" "$seconds"
  else
    printf '%d:%02d' "$minutes" "$seconds"
  fi
}

# Nearest existing folder of a path that may not exist yet.
existing_parent() {
  local path=$1
  while [[ ! -d $path ]]; do path=$(dirname -- "$path"); done
  printf '%s' "$path"
}

# require_space GB FOLDER PURPOSE [GB FOLDER PURPOSE]...: folders on one file system add up.
require_space() {
  local -A need=() free=() what=()
  local disk kb
  while (($#)); do
    read -r disk kb < <(df -Pk -- "$(existing_parent "$2")" | awk 'NR == 2 {print $6, $4}')
    if (($1 > 0)); then
      need[$disk]=$((${need[$disk]:-0} + $1))
      free[$disk]=$kb
      what[$disk]="${what[$disk]:+${what[$disk]}, }$1 GB for $3 in $2"
    fi
    shift 3
  done
  for disk in "${!need[@]}"; do
    if ((free[$disk] < need[$disk] * KB_PER_GB)); then
      die "not enough disk space: ${need[$disk]} GB needed, $((free[$disk] / KB_PER_GB)) GB free on $disk" \
        "needed: ${what[$disk]}" \
        "free some space; the quickstart can write to another disk: --out DIR"
    fi
  done
}

# Prints an interpreter's version as "3 11" if it is 64-bit and can make environments; otherwise
# prints what it lacks and fails.
inspect_python() {
  "$1" -c '
import struct, sys
if sys.version_info < (3, 11):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
if struct.calcsize("P") != 8:
    sys.exit("is a 32-bit build")
try:
    import ensurepip, venv
except ImportError:
    sys.exit("no venv %d.%d" % sys.version_info[:2])
print("%d %d" % sys.version_info[:2])
' 2>&1
}

# Sets BASE_PYTHON to the first interpreter that fits, or says what to install.
find_python() {
  local candidate found without_venv='' seen=''
  local candidates=(python3 python3.13 python3.12 python3.11 python)
  if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    command -v -- "$candidate" >/dev/null 2>&1 || continue
    if found=$(inspect_python "$candidate"); then
      BASE_PYTHON=$candidate
      # Wheels of the pinned versions exist for these; a newer Python may lack some.
      case $found in '3 11' | '3 12' | '3 13') ;; *)
        say "note: Python ${found/ /.} is newer than the pinned packages were tried with (3.11 to 3.13)" ;;
      esac
      return
    fi
    seen="${seen:+$seen; }$candidate ${found##*$'\n'}"
    case $found in 'no venv '*) without_venv=${without_venv:-${found#no venv }} ;; esac
  done
  if [[ -n $without_venv ]]; then
    die "Python $without_venv is here, but cannot make virtual environments (ensurepip is missing)" \
      "Debian and Ubuntu ship that part separately:" \
      "sudo apt install python3-venv        (or python$without_venv-venv)"
  fi
  die "no 64-bit Python 3.11 or newer was found${seen:+ ($seen)}" \
    "Debian 12, Ubuntu 24.04 and newer:  sudo apt install python3 python3-venv" \
    "elsewhere: install Python 3.11, 3.12 or 3.13, and name it: PYTHON=/path/to/python3 bash ..."
}

# Hash of requirement files and of the interpreter: what an environment was made from.
requirements_hash() {
  { cat -- "$@" && "$VENV/bin/python" -c 'import sys; print(sys.version)'; } | sha256sum | cut -c1-16
}

# marker NAME: the file that says what the part NAME of the environment was installed from.
marker() { printf '%s/.installed-%s' "$VENV" "$1"; }

# is_installed NAME FILE...: whether the part NAME is there and its requirement files unchanged.
is_installed() {
  local name=$1
  shift
  [[ -x $VENV/bin/python && -f $(marker "$name") ]] &&
    [[ $(<"$(marker "$name")") == "$(requirements_hash "$@" 2>/dev/null)" ]]
}

# Makes .venv, or makes it anew if its interpreter is gone (after an upgrade of the system).
make_venv() {
  if [[ -x $VENV/bin/python ]] && inspect_python "$VENV/bin/python" >/dev/null; then return; fi
  find_python
  say "making $VENV with $BASE_PYTHON ($("$BASE_PYTHON" --version))"
  "$BASE_PYTHON" -m venv --clear "$VENV" || die "$BASE_PYTHON -m venv failed: see above" \
    "sudo apt install python3-venv"
}

# pip_install ARGS...: wheels only, so that no compiler is ever needed. The exceptions are pure
# Python and published as source alone.
SOURCE_ONLY=promise,pytorchvideo,fvcore,iopath
pip_install() {
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
    --only-binary=:all: --no-binary="$SOURCE_ONLY" "$@"
}

# install NAME FILE...: installs requirement files into .venv unless that is done already.
install() {
  local name=$1 file started=$SECONDS
  shift
  make_venv
  if is_installed "$name" "$@"; then return; fi
  rm -f -- "$(marker "$name")"
  local arguments=()
  for file in "$@"; do arguments+=(-r "$file"); done
  say "installing the $name packages into $VENV (a minute or more the first time)"
  pip_install "${arguments[@]}" || die "the packages could not be installed: pip's reason is above" \
    "no network or a proxy: set https_proxy, or PIP_INDEX_URL for a mirror" \
    "'no matching distribution': use Python 3.11 to 3.13 on x86-64 or ARM64 Linux (PYTHON=python3.11)" \
    "then run the same command again"
  requirements_hash "$@" >"$(marker "$name")"
  say "installed in $(clock $((SECONDS - started)))"
}

# setup_lock: one process at a time works on .venv.
setup_lock() {
  command -v flock >/dev/null 2>&1 || return 0
  mkdir -p -- "$ROOT/.cache"
  exec 8>"$ROOT/.cache/setup.lock"
  flock -n 8 || { say "waiting for another setup of $VENV"; flock 8; }
}
setup_unlock() { exec 8>&-; }

# install_runtime: the environment of all commands, made by one process at a time.
install_runtime() {
  setup_lock
  install runtime "$ROOT/requirements.txt"
  setup_unlock
}

# Quiet start-up noise of libraries; JAX stays on the CPU unless the user has chosen.
quiet_environment() {
  export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
  export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} GRPC_VERBOSITY=${GRPC_VERBOSITY:-ERROR}
  export GLOG_minloglevel=${GLOG_minloglevel:-2}
  export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::DeprecationWarning,ignore::FutureWarning}
  # Every step is a process of its own; most of them compile the same programs.
  export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}
  export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0.2}
  # Arrays of megabytes come and go at every step: huge pages of them are a third less work.
  export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
  # BLAS's threads wait for each other: where other work shares the processor a fit takes ten times
  # as long by two as by one.
  export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
  # Files of launch/ and workers with a folder of their own find the package too.
  export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
  export PYTHONUNBUFFERED=1 PYTHONUTF8=1
}
