"""Launch scripts: the commands that they would run, and what they say of wrong arguments."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TPU = ["tpu_pod.sh", "--name", "slice", "--zone", "us-west4-a", "--dry-run"]
GKE = ["gke.sh", "--cluster=c", "--name=n", "--type=v5litepod-256", "--image=i", "--dry-run"]
JOB = ["--data", "a folder", "--workdir=/w/it's"]


def _run(script, *arguments, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "launch" / script), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def _commands(script, *arguments, **environment):
    """Command lines of a dry run, as a shell reads them."""
    done = _run(script, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return list(map(shlex.split, done.stdout.replace("$'", "'").splitlines()))


def test_this_machine_trains_in_one_process_and_shares_other_jobs():
    (train,) = _commands("local.sh", "--dry-run", "train", *JOB)
    assert train[1:] == ["-m", "vqa_jax", "train", *JOB]
    shared = _commands("local.sh", "--processes", "3", "--dry-run", "motion", "--data", "d")
    assert [c[-4:] for c in shared] == [["--processes", "3", "--process", str(i)] for i in range(3)]
    assert "leave --processes out" in _run("local.sh", "--processes=2", "train").stderr


def test_this_machine_runs_all_processes_and_reports_a_failure():
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("launch/local.sh uses .venv, and these tests run elsewhere")
    done = _run("local.sh", "--processes", "2", "motoin", "--data", "/no such corpus")
    assert done.returncode != 0
    assert done.stderr.count("motoin") >= 2


ITERATE = ["iterate.sh", "--config=c.py:%", "--data=/a corpus", "--out=/runs", "--dry-run"]


def test_iterations_follow_each_other_and_steps_can_be_skipped():
    commands = [c[3:] for c in _commands(*ITERATE, "1", "2", "3")]
    names = ["train", "anchors", "evaluate"]
    assert [c[0] for c in commands] == [*names, *2 * ["relabel", *names]]
    train = [c for c in commands if c[0] == "train"]
    assert train[1][1:6] == [
        "--config=c.py:2",
        "--data",
        "/a corpus",
        "--workdir",
        "/runs/iteration_2",
    ]
    for count, command in enumerate(train, 1):
        pairs = "".join(f"'vqa_pairs_{k}'," for k in range(1, count + 1))
        assert command[6:] == [f"--config.train.pair_datasets=({pairs})"]
    relabel = commands[7]
    assert relabel[:4] == ["relabel", "--config=c.py:3", "--student", "/runs/iteration_2/student"]
    options = ["--skip=relabel_2,evaluate_2", "--start=/base", "--warm=yes"]
    train, anchors = (c[3:] for c in _commands(*ITERATE, *options, "2"))
    assert train[-1] == "--config.train.init_from=/runs/iteration_1/student"
    assert anchors == ["anchors", "--student", "/runs/iteration_2/student", "--data", "/a corpus"]
    shared = _commands(*ITERATE, "--processes=2", "--scores=s.csv", "--skip=train_2,anchors_2", "2")
    assert [c[3] for c in shared] == ["relabel"] * 2 + ["evaluate"] * 2
    assert shared[1][-4:] == ["--processes", "2", "--process", "1"] and "s.csv" in shared[0]


def test_slice_is_asked_for_filled_used_and_given_back():
    (create,) = _commands(*TPU, "--type=v5litepod-64", "--runtime=r", "--spot=yes", "create")
    assert create[:5] == ["gcloud", "compute", "tpus", "queued-resources", "create"]
    assert create[-5:] == ["--accelerator-type", "v5litepod-64", "--runtime-version", "r", "--spot"]
    assert [c[0] for c in _commands(*TPU, "install")][:2] == ["git", "gcloud"]
    assert "delete slice" in " ".join(_commands(*TPU, "delete")[0])
    train, relabel = (_run(*TPU, "run", job, *JOB).stdout for job in ("train", "relabel"))
    assert "--worker=all" in train and "--coordinator auto" in train
    assert "--coordinator" not in relabel and "agent-worker-number" in relabel


def test_pods_start_training_again_until_its_student_is_there():
    (train,) = _commands(*GKE, "train", *JOB)
    assert train[:6] == ["xpk", "workload", "create", "--cluster", "c", "--workload"]
    line = train[train.index("--command") + 1]
    words = shlex.split(line.replace("&&", ";"))
    assert [*JOB, "--coordinator", "auto"] == words[words.index("train") + 1 : -4]
    assert words[-3:] == ["test", "-e", "/w/it's/student"]
    (relabel,) = _commands(*GKE, "relabel", "--data", "d")
    assert '--process "$TPU_WORKER_ID"' in relabel[-1]
    assert "only train" in _run(*GKE, "--slices=2", "relabel").stderr
    assert "--xla_tpu_enable_latency_hiding_scheduler=true" in line.split("&&")[1]


def test_slurm_runs_one_process_a_gpu():
    (train,) = _commands("slurm.sh", "--dry-run", "train", *JOB, SLURM_SUBMIT_DIR=str(ROOT))
    assert train[0] == "srun" and train[-1].endswith("--coordinator auto")
    assert shlex.split(train[-1])[-5:-2] == JOB
    (motion,) = _commands("slurm.sh", "--dry-run", "motion", "--data", "d")
    assert '--process "$SLURM_PROCID"' in motion[-1]
    setting = train[-1].split("&&")[1].strip()
    told = subprocess.run(
        ["bash", "-c", f"{setting}; {sys.executable} -c 'import jax; print(jax.devices())'"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr  # XLA ends where it is told a flag that it lacks
    assert setting.startswith('export XLA_FLAGS="--xla_gpu_') and setting.endswith(
        '${XLA_FLAGS:-}"'
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["local.sh"], "nothing to do"),
        (["local.sh", "--workers", "2", "train"], "unknown option: --workers"),
        (["tpu_pod.sh", "--name", "n", "run", "train"], "--zone is needed"),
        ([*TPU, "start"], "unknown action: start"),
        ([*TPU, "create"], "--type is needed"),
        (["gke.sh", "--cluster", "c", "train"], "--name is needed"),
        ([*GKE, "train", "--data", "d"], "--workdir is needed"),
        ([*ITERATE, "second"], "iteration second"),
        (["iterate.sh", "--config=c", "--out=o", "1"], "--data is needed"),
    ],
)
def test_wrong_arguments_are_named_with_the_way_to_help(arguments, said):
    done = _run(*arguments)
    assert done.returncode == 1 and not done.stdout
    assert said in done.stderr and "--help" in done.stderr


@pytest.mark.parametrize("name", ["local", "iterate", "stage", "tpu_pod", "gke", "slurm"])
def test_help_is_the_head_of_the_script(name):
    done = _run(f"{name}.sh", "--help")
    assert done.returncode == 0 and f"launch/{name}.sh" in done.stdout
    assert "#SBATCH" not in done.stdout and "set -euo" not in done.stdout


def test_scripts_pass_shellcheck():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(str(path) for path in (ROOT / "launch").glob("*.sh"))
    done = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_converters_run_from_any_folder_without_being_installed(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(name, *arguments):
        script = [sys.executable, str(ROOT / "launch" / name), *arguments]
        return subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = run("convert_efficientnet_lite.py", "--help")
    assert done.returncode == 0 and "usage: launch/convert_eff" in done.stdout, done.stderr
    done = run("convert_slowfast.py", "gone.pth", "out.safetensors")  # what both share
    assert done.returncode == 1 and done.stderr.startswith("gone.pth: "), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["small.sh", "leave_out.sh", "ablation.sh"])
def test_trainings_on_photographs_name_what_is_missing(script, tmp_path):
    """Before anything is installed or written."""
    (tmp_path / "scores.csv").write_text("path,mos\n")
    assert "--photographs" in _run(script, "--photographs", "/no such folder").stderr
    known = ("--photographs", str(tmp_path), "--scores", str(tmp_path / "scores.csv"))
    missing = "--out" if script == "small.sh" else "no tokens"
    assert missing in _run(script, *known).stderr
    assert "unknown argument: --nonsense" in _run(script, "--nonsense").stderr
