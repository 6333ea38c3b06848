#!/usr/bin/env bash
# Prepares a corpus (python -m data_prep build) on a Beam runner.
#
#   bash launch/prep.sh RUNNER --config NAME --videos LISTING --data DIR
#       [--workers N] [--dry-run] [-- OPTIONS OF BEAM]
#   bash launch/prep.sh RUNNER --metrics TABLE --videos LISTING [...]
#
#   local            in this process, one worker
#   multi_processing N worker processes on this machine
#   portable         Beam's job service with an external worker pool. Both are started here, unless
#                    --job_endpoint=HOST:PORT names a service that runs. Beam's own service keeps
#                    one worker busy: it is there to try out what a portable engine will do
#   dask             a Dask cluster: a scheduler and N worker processes are started here, unless
#                    --dask_client_address=tcp://HOST:PORT names one. Installs dask
#   flink            (could not be tried by us) a Flink cluster, --flink_master=HOST:8081. Needs Java
#                    on this machine and, beside every task manager, this repository with its .venv
#                    first on PATH and
#                    python -m apache_beam.runners.worker.worker_pool_main --service_port=50000
#   dataflow         (could not be tried by us) Google Dataflow: --project=P --region=R
#                    --temp_location=gs://B/tmp --sdk_container_image=IMAGE. Needs
#                    pip install 'apache-beam[gcp]==2.77.0' here, and an image with this repository
#                    (on PYTHONPATH), its requirements, and DIR mounted, for example from Filestore
#
#   --config NAME    such as quickstart, or a file; changes of its fields go after --, as
#                    --config.prep.stills=true
#   --videos LISTING folder, glob or table (.csv, .jsonl, .parquet); local, gs:// or s3://
#   --data DIR       corpus folder; every worker must see it, as a file system, under this name
#   --metrics TABLE  measures nine metrics of every video instead (python -m data_prep metrics)
#   --workers N      worker processes (default: the number of cores)
#   --dry-run        prints the command of the build and starts nothing
#
# The same command resumes after an interruption; the shards do not depend on runner or workers.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/setup.sh
source "$ROOT/launch/setup.sh"

FLINK_POOL=localhost:50000
DASK_PARTITIONS_PER_WORKER=64 # small parts: little is idle at the end, little is done twice

remedy='see: bash launch/prep.sh --help'

# --- arguments -----------------------------------------------------------------------------------
RUNNER=${1:-}
case $RUNNER in
  local | multi_processing | portable | dask | flink | dataflow) shift ;;
  -h | --help) usage && exit 0 ;;
  *) die "unknown runner: '$RUNNER'" "$remedy" ;;
esac
CONFIG='' VIDEOS='' DATA='' METRICS='' WORKERS=$(nproc) DRY_RUN=''
while (($#)); do
  case $1 in
    --config | --videos | --data | --metrics | --workers)
      [[ -n ${2:-} ]] || die "$1 needs a value" "$remedy"
      declare "$(tr '[:lower:]' '[:upper:]' <<<"${1#--}")=$2"
      shift 2
      ;;
    --config=* | --videos=* | --data=* | --metrics=* | --workers=*)
      name=${1%%=*}
      declare "$(tr '[:lower:]' '[:upper:]' <<<"${name#--}")=${1#*=}"
      shift
      ;;
    --dry-run) DRY_RUN=1 && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) die "unknown argument: $1" "options of Beam come after --; $remedy" ;;
  esac
done
[[ -n $VIDEOS && (-n $METRICS || (-n $CONFIG && -n $DATA)) ]] ||
  die "--config, --videos and --data are needed, or --metrics and --videos" "$remedy"
[[ $WORKERS =~ ^[1-9][0-9]*$ ]] || die "--workers $WORKERS is not a number from 1 up"

# Absolute: workers may have another current folder.
if [[ -n $METRICS ]]; then METRICS=$(realpath -m -- "$METRICS"); else DATA=$(realpath -m -- "$DATA"); fi
[[ $VIDEOS == *://* ]] || VIDEOS=$(realpath -m -- "$VIDEOS")

# given NAME: whether --NAME=... is among the options after --.
EXTRA=("$@")
given() {
  local option
  for option in "${EXTRA[@]}"; do [[ $option == "--$1" || $option == "--$1="* ]] && return 0; done
  return 1
}
needs() { given "$1" || die "$RUNNER needs -- --$1=..." "$remedy"; }

case $RUNNER in
  local) BEAM=(--runner=FnApiRunner) ;;
  multi_processing)
    BEAM=(--runner=DirectRunner --direct_running_mode=multi_processing
      "--direct_num_workers=$WORKERS")
    ;;
  portable) BEAM=(--runner=PortableRunner --environment_type=EXTERNAL) ;;
  dask)
    BEAM=(--runner=apache_beam.runners.dask.dask_runner.DaskRunner)
    given dask_npartitions ||
      BEAM+=("--dask_npartitions=$((WORKERS * DASK_PARTITIONS_PER_WORKER))")
    ;;
  flink)
    needs flink_master
    BEAM=(--runner=FlinkRunner --environment_type=EXTERNAL "--parallelism=$WORKERS")
    given environment_config || BEAM+=("--environment_config=$FLINK_POOL")
    ;;
  dataflow)
    for option in project region temp_location sdk_container_image; do needs "$option"; done
    BEAM=(--runner=DataflowRunner "--max_num_workers=$WORKERS" --number_of_worker_harness_threads=1
      --sdk_location=container)
    ;;
esac

# --- environment ---------------------------------------------------------------------------------
if [[ -z $DRY_RUN ]]; then
  setup_lock
  install runtime "$ROOT/requirements.txt"
  if [[ $RUNNER == dask ]]; then install dask "$ROOT/launch/requirements-dask.txt"; fi
  setup_unlock
fi
quiet_environment
SERVICES=$(mktemp -d)
BIN="$VENV/bin"
# Beam starts its workers through a shell without quoting the interpreter's path: where that holds a
# space, a link without one stands in for .venv.
if [[ $BIN == *[!A-Za-z0-9_./+-]* ]]; then
  ln -s -- "$VENV" "$SERVICES/venv"
  BIN="$SERVICES/venv/bin"
fi
export PATH="$BIN:$PATH" # Beam's worker pool starts `python`
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 # workers, not threads, share the cores

# --- services ------------------------------------------------------------------------------------
STARTED=()
stop_services() {
  local pid
  for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${STARTED[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf -- "$SERVICES"
}
trap stop_services EXIT

# Services must not outlive this script when it is killed.
GUARD=()
if command -v setpriv >/dev/null 2>&1 && setpriv --pdeathsig TERM true 2>/dev/null; then
  GUARD=(setpriv --pdeathsig TERM)
fi

# start NAME COMMAND...: runs a service in the background until this script ends.
start() {
  local name=$1
  shift
  "${GUARD[@]}" "$@" >"$SERVICES/$name.log" 2>&1 &
  STARTED+=("$!")
}

# await NAME COMMAND...: until the command succeeds; dies with the service NAME.
await() {
  local name=$1 tries=0
  shift
  until "$@"; do
    if ! kill -0 "${STARTED[-1]}" 2>/dev/null || ((++tries > 1200)); then
      tail -n 20 -- "$SERVICES/$name.log" >&2
      die "the $name did not start: see above"
    fi
    sleep 0.1
  done
}

free_port() { python -c 'import socket as s; x = s.socket(); x.bind(("", 0)); print(x.getsockname()[1])'; }
answers() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start_portable() {
  local port
  port=$(free_port)
  start "worker pool" python -m apache_beam.runners.worker.worker_pool_main "--service_port=$port"
  await "worker pool" answers "$port"
  BEAM+=("--environment_config=localhost:$port")
  start "job service" python -m apache_beam.runners.portability.local_job_service_main \
    --job_port=0 "--port_file=$SERVICES/job_port"
  await "job service" test -s "$SERVICES/job_port"
  BEAM+=("--job_endpoint=localhost:$(<"$SERVICES/job_port")")
}

start_dask() {
  local file=$SERVICES/scheduler.json
  start "scheduler" dask scheduler --host 127.0.0.1 --port 0 --no-dashboard \
    --scheduler-file "$file"
  await "scheduler" test -s "$file"
  # One thread a worker: decoders and encoders of several files in one process only wait.
  start "workers" dask worker --scheduler-file "$file" --nworkers "$WORKERS" --nthreads 1 \
    --no-dashboard --memory-limit 0 --local-directory "$SERVICES"
  BEAM+=("--dask_scheduler_file=$file")
}

if [[ -n $METRICS ]]; then
  command=(python -m data_prep metrics "--videos=$VIDEOS" "--out=$METRICS")
else
  command=(python -m data_prep build "--config=$CONFIG" "--videos=$VIDEOS" "--data=$DATA")
fi
for option in "${EXTRA[@]}"; do
  if [[ $option == --config.* ]]; then command+=("$option"); else BEAM+=("$option"); fi
done
if [[ -n $DRY_RUN ]]; then
  printf '%q ' "${command[@]}" -- "${BEAM[@]}"
  printf '\n'
  exit 0
fi
if [[ $RUNNER == portable ]] && ! given job_endpoint; then start_portable; fi
if [[ $RUNNER == dask ]] && ! given dask_client_address && ! given dask_scheduler_file; then
  start_dask
fi
"${command[@]}" -- "${BEAM[@]}"
