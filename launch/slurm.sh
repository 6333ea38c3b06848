#!/usr/bin/env bash
# A job on GPUs of a Slurm cluster, one process a GPU. (No cluster was at hand: the command is
# checked by --dry-run alone.) Needs, on all nodes, this repository under one name with its .venv and
# the CUDA build of the pinned JAX: .venv/bin/pip install "jax[cuda13]==VERSION".
#
#   sbatch --nodes 4 --gpus-per-node 8 --ntasks-per-node 8 launch/slurm.sh COMMAND ARGUMENTS
#   bash launch/slurm.sh --dry-run COMMAND ARGUMENTS
#
#   COMMAND          of python -m vqa_jax: train, evaluate, relabel, motion, ...
#   --dry-run        prints the command and runs nothing
#
# Submit it from the repository's folder. Data and work folder must be on a file system of all nodes.
# Two minutes before the time is up, and before a pre-emption, Slurm sends SIGTERM: training saves and
# ends. A pre-empted job is queued again and resumes; after the time limit submit the same line again.
#SBATCH --job-name=vqa_jax
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file.
ROOT=${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}
# shellcheck source=launch/jobs.sh
source "$ROOT/launch/jobs.sh"

read_options "" "$@"
line="cd $(quoted "$ROOT") && $(for_xla XLA_FLAGS)"
line+=" && JAX_PLATFORMS=cuda exec .venv/bin/python -m vqa_jax $(quoted "${REST[@]}")"
if [[ ${REST[0]} == train ]]; then
  line+=' --coordinator auto' # JAX finds its peers, and the GPU of each task, in Slurm's variables
else
  # shellcheck disable=SC2016 # expanded in each task
  line+=' --processes "$SLURM_NTASKS" --process "$SLURM_PROCID"'
  line="export CUDA_VISIBLE_DEVICES=\$SLURM_LOCALID; $line"
fi
do_it srun --kill-on-bad-exit=1 bash -c "$line"
