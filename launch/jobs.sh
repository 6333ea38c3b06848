# shellcheck shell=bash
# Shared by local.sh, iterate.sh, tpu_pod.sh, gke.sh and slurm.sh, which source it: how they read
# their options.
# Defines functions only. `ROOT` must hold the repository's absolute path.

# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

# show WORD...: a command line, quoted so that it can be pasted.
show() {
  printf '%q ' "$@"
  printf '\n'
}

# do_it WORD...: runs a command line, or shows it under --dry-run.
do_it() {
  if [[ -n $DRY_RUN ]]; then show "$@"; else "$@"; fi
}

# read_options "--name ..." ARGUMENT...: sets NAME for each of the named options, DRY_RUN, and REST,
# which begins where the options end and may not be empty.
read_options() {
  local known=" $1 " name
  local remedy="see: bash launch/${0##*/} --help"
  shift
  DRY_RUN='' REST=()
  while (($#)); do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --dry-run) DRY_RUN=1 && shift ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
      --*)
        [[ $known == *" $1 "* ]] || die "unknown option: $1" "$remedy"
        [[ -n ${2:-} ]] || die "$1 needs a value" "$remedy"
        name=${1#--}
        name=${name^^}
        declare -g "${name//-/_}=$2"
        shift 2
        ;;
      *) REST=("$@") && break ;;
    esac
  done
  ((${#REST[@]})) || die "nothing to do" "$remedy"
}

# need NAME...: dies unless these options were given.
need() {
  local name option
  for name in "$@"; do
    option=${name,,}
    [[ -n ${!name:-} ]] || die "--${option//_/-} is needed" "see: bash launch/${0##*/} --help"
  done
}

# quoted WORD...: one string that a shell reads as these words.
quoted() {
  local text
  printf -v text '%q ' "$@"
  printf '%s' "${text% }"
}
