#!/usr/bin/env bash
# A job on TPUs of a GKE cluster, as a JobSet that xpk makes. (No cluster was at hand: the command
# is checked by --dry-run alone.) Needs xpk (pip install xpk), and an image that holds this
# repository in /vqa_jax with its requirements and jax[tpu] of the pinned version.
#
#   bash launch/gke.sh OPTIONS COMMAND ARGUMENTS
#
#   COMMAND          of python -m vqa_jax: train, evaluate, relabel, motion, ...
#   --cluster NAME   made by `xpk cluster create`
#   --name NAME      of the workload
#   --type TYPE      such as v5litepod-256
#   --image IMAGE    in a registry that the cluster may read
#   --slices N       (default 1); train on several with --config.train.mesh=N,-1,1
#   --restarts N     how often the JobSet is started anew (default 20)
#   --dry-run        prints the command and runs nothing
#
# Data and work folder must be on storage that the cluster mounts in its pods (`xpk storage attach`).
# Training that is told to end saves and exits 0, which a JobSet takes for done: `train` counts as
# done here only once its student is written, so that the JobSet starts it again and it resumes.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$ROOT/launch/jobs.sh"

CLUSTER='' NAME='' TYPE='' IMAGE='' SLICES=1 RESTARTS=20 WORKDIR=''
read_options "--cluster --name --type --image --slices --restarts" "$@"
need CLUSTER NAME TYPE IMAGE
COMMAND=("${REST[@]}")

line="cd /vqa_jax && $(for_xla LIBTPU_INIT_ARGS)"
line+=" && JAX_PLATFORMS=tpu python -m vqa_jax $(quoted "${COMMAND[@]}")"
if [[ ${COMMAND[0]} == train ]]; then
  for ((i = 1; i < ${#COMMAND[@]}; i++)); do
    case ${COMMAND[i]} in
      --workdir) WORKDIR=${COMMAND[i + 1]:-} ;;
      --workdir=*) WORKDIR=${COMMAND[i]#*=} ;;
    esac
  done
  need WORKDIR
  line+=" --coordinator auto && test -e $(quoted "$WORKDIR/student")"
else
  # Hosts of a slice and their numbers are what GKE tells every pod.
  # shellcheck disable=SC2016 # expanded in the pods
  line+=' --processes $(echo "$TPU_WORKER_HOSTNAMES" | tr , "\n" | wc -l) --process "$TPU_WORKER_ID"'
  [[ $SLICES == 1 ]] || die "only train runs on more than one slice" "leave --slices out"
fi
do_it xpk workload create --cluster "$CLUSTER" --workload "$NAME" --tpu-type "$TYPE" \
  --num-slices "$SLICES" --docker-image "$IMAGE" --max-restarts "$RESTARTS" --command "$line"
