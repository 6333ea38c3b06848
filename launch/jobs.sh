# shellcheck shell=bash
# Shared by local.sh, iterate.sh, tpu_pod.sh, gke.sh and slurm.sh, which source it: how they read
# their options.
# Defines functions, and what XLA is told on many chips. `ROOT` must hold the repository's absolute
# path.

# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

# Of TPUs, before what LIBTPU_INIT_ARGS says itself. Layers are gathered just before their use, and
# their gradients scattered just after: beside the layers before and after (the first), spread over
# their matmuls (the next two). Between slices gradients are summed beside the backward pass, of
# whatever sizes (the last two).
LIBTPU_INIT_ARGS_OURS='--xla_tpu_enable_latency_hiding_scheduler=true
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_overlap_compute_collective_tc=true
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  --xla_tpu_data_parallel_opt_different_sized_ops=true'
# Of GPUs, before what XLA_FLAGS says itself: as the first above; then collectives of a layer's
# parameters go together until they are 128 MB, since small ones cost a launch and a round trip each.
XLA_FLAGS_OURS='--xla_gpu_enable_latency_hiding_scheduler=true
  --xla_gpu_all_gather_combine_threshold_bytes=134217728
  --xla_gpu_reduce_scatter_combine_threshold_bytes=134217728
  --xla_gpu_all_reduce_combine_threshold_bytes=134217728'

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

# for_xla VARIABLE: a command that puts our flags before those that the variable has there.
for_xla() {
  local ours="$1_OURS"
  # shellcheck disable=SC2086 # one line of several
  printf 'export %s="%s ${%s:-}"' "$1" "$(echo ${!ours})" "$1"
}

# quoted WORD...: one string that a shell reads as these words.
quoted() {
  local text
  printf -v text '%q ' "$@"
  printf '%s' "${text% }"
}
