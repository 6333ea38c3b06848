# shellcheck shell=bash
# Shared by local.sh, iterate.sh, stage.sh, tpu_pod.sh, gke.sh and slurm.sh, which source it: how
# they read their options, and the steps of a run with what they cost.
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

# --- steps of a run ---------------------------------------------------------------------------------

# step NAME COMMAND...: a step of the run in OUT on DATA, unless SKIP names it. Before it starts it
# says what it will cost, by COSTS, the options of `python -m data_prep costs`; when it ends, well
# or not, what it did cost, which is also a row of OUT/costs.csv. COMMAND heeds DRY_RUN itself.
step() {
  local name=$1 began=$SECONDS started cpu bytes status=0
  shift
  if [[ ,$SKIP, == *,"$name",* ]]; then return; fi
  if [[ -n $DRY_RUN ]]; then
    "$@"
    return
  fi
  mkdir -p -- "$OUT"
  [[ -f $OUT/costs.csv ]] || say "step,started,seconds,cpu_seconds,bytes,status" >"$OUT/costs.csv"
  say "--- $name"
  say "    will cost: $(run_python data_prep costs "${COSTS[@]}" --quiet --step "$name" || say unknown)"
  started=$(date -u +%FT%TZ) cpu=$(cpu_ticks) bytes=$(bytes_held)
  "$@" || status=$?
  cpu=$(($(cpu_ticks) - cpu)) bytes=$(($(bytes_held) - bytes))
  cpu=$(awk -v ticks="$cpu" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", ticks / hz }')
  say "$name,$started,$((SECONDS - began)),$cpu,$bytes,$status" >>"$OUT/costs.csv"
  awk -v name="$name" -v cpu="$cpu" -v bytes="$bytes" -v clock="$(clock $((SECONDS - began)))" '
    BEGIN { printf "    did cost: %s: %.3g core-hours, %.3g GB more on disk; %s on the clock\n",
      name, cpu / 3600, bytes / 1e9, clock }'
  return "$status"
}

# run_python MODULE ARGUMENTS...: a module of ours, also under --dry-run.
run_python() { (cd -- "$ROOT" && exec "$VENV/bin/python" -m "$@"); }

# job PROCESSES COMMAND...: a command of vqa_jax on this machine.
job() {
  local options=(--processes "$1")
  shift
  if [[ -n $DRY_RUN ]]; then options+=(--dry-run); fi
  bash "$ROOT/launch/local.sh" "${options[@]}" "$@"
}

# cpu_ticks: of all that this script has started and waited for.
cpu_ticks() {
  local stat
  read -ra stat <"/proc/$$/stat"
  printf '%d' $((stat[15] + stat[16]))
}

# bytes_held: in DATA and OUT, each once, also where one lies in the other.
bytes_held() {
  local folder there=()
  for folder in "$DATA" "$OUT"; do if [[ -d $folder ]]; then there+=("$folder"); fi; done
  du -sb -- "${there[@]}" | awk '{ sum += $1 } END { printf "%d", sum }'
}
