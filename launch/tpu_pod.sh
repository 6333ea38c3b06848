#!/usr/bin/env bash
# A job on a slice of a TPU pod, got through Cloud TPU's queue. (No TPU was at hand: the commands
# are checked by --dry-run alone.)
#
#   bash launch/tpu_pod.sh OPTIONS create
#   bash launch/tpu_pod.sh OPTIONS install
#   bash launch/tpu_pod.sh OPTIONS run COMMAND ARGUMENTS
#   bash launch/tpu_pod.sh OPTIONS delete
#
#   create           asks for the slice and waits until it is there
#   install          copies the committed files of this repository to all hosts, makes .venv there
#   run              python -m vqa_jax COMMAND ARGUMENTS on all hosts: train, evaluate, relabel, ...
#   delete           gives the slice back
#
#   --name NAME      of the slice
#   --zone ZONE      such as us-west4-a
#   --type TYPE      (create) such as v5litepod-64 (plan's v5e:8x8) or v5p-128 (v5p:4x4x4)
#   --runtime V      (create) such as v2-alpha-tpuv5-lite or v2-alpha-tpuv5
#   --spot yes       (create) cheaper, and may be taken back at any time
#   --dry-run        prints the commands and runs nothing
#
# Data and work folder must be on a file system that all hosts mount under one name (Filestore, or a
# bucket through gcsfuse). A slice that is taken back sends SIGTERM: training saves and ends. Once it
# is there again (delete, create, install), the same `run` resumes.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$ROOT/launch/jobs.sh"

NAME='' ZONE='' TYPE='' RUNTIME='' SPOT=''
read_options "--name --zone --type --runtime --spot" "$@"
need NAME ZONE
ACTION=${REST[0]} COMMAND=("${REST[@]:1}")
QUEUE=(gcloud compute tpus queued-resources)
VM=(gcloud compute tpus tpu-vm)
ALL=(--zone "$ZONE" --worker=all)

case $ACTION in
  create)
    need TYPE RUNTIME
    do_it "${QUEUE[@]}" create "$NAME" --node-id "$NAME" --zone "$ZONE" \
      --accelerator-type "$TYPE" --runtime-version "$RUNTIME" ${SPOT:+--spot}
    until [[ -n $DRY_RUN ]] ||
      [[ $("${QUEUE[@]}" describe "$NAME" --zone "$ZONE" --format 'value(state.state)') == ACTIVE ]]; do
      sleep 30
    done
    ;;
  install)
    ARCHIVE=$(mktemp --suffix .tar.gz)
    trap 'rm -f -- "$ARCHIVE"' EXIT
    do_it git -C "$ROOT" archive --output "$ARCHIVE" HEAD
    do_it "${VM[@]}" scp "$ARCHIVE" "$NAME:vqa_jax.tar.gz" "${ALL[@]}"
    # The TPU build has the version of the pinned JAX.
    # shellcheck disable=SC2016 # expanded on the hosts
    do_it "${VM[@]}" ssh "$NAME" "${ALL[@]}" --command 'set -e
      mkdir -p vqa_jax && tar -xzf vqa_jax.tar.gz -C vqa_jax && cd vqa_jax
      python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt
      .venv/bin/pip install --quiet "jax[tpu]==$(.venv/bin/python -c "import jax; print(jax.__version__)")"'
    ;;
  run)
    ((${#COMMAND[@]})) || die "run what?" "see: bash launch/tpu_pod.sh --help"
    # `train` finds its peers by itself; other jobs share their work by number.
    SHARE='--coordinator auto'
    if [[ ${COMMAND[0]} != train ]]; then
      # shellcheck disable=SC2016 # expanded on the hosts
      SHARE='--processes $(of worker-network-endpoints | tr , "\n" | grep -c .) --process $(of agent-worker-number)'
    fi
    do_it "${VM[@]}" ssh "$NAME" "${ALL[@]}" --command "cd vqa_jax
      of() { curl -s -H 'Metadata-Flavor: Google' \
        http://metadata.google.internal/computeMetadata/v1/instance/attributes/\$1; }
      $(for_xla LIBTPU_INIT_ARGS)
      JAX_PLATFORMS=tpu exec .venv/bin/python -m vqa_jax $(quoted "${COMMAND[@]}") $SHARE"
    ;;
  delete) do_it "${QUEUE[@]}" delete "$NAME" --zone "$ZONE" --force --quiet ;;
  *) die "unknown action: $ACTION" "see: bash launch/tpu_pod.sh --help" ;;
esac
