"""Steps that run a user's commands, remember in a folder that they passed, and what they took."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = "VQA_JAX_FULL_SIZE"  # environment variable: the work folder; without it nothing runs
MOST_GB = 20.0  # of memory, for one process


@dataclasses.dataclass
class Step:
    """One step of the walk.

    Attributes:
      folder: everything lies there, whatever step made it; commands run in it.
      name: of the step.
      rows: what each of its commands took.
    """

    folder: pathlib.Path
    name: str
    rows: list[dict[str, object]] = dataclasses.field(default_factory=list)

    @property
    def kept(self) -> pathlib.Path:
        """Is there once the step has passed."""
        return self.folder / "passed" / f"{self.name}.json"

    def keep(self) -> None:
        """Remembers that the step passed."""
        self.kept.parent.mkdir(exist_ok=True)
        self.kept.write_text(json.dumps(self.rows, indent=1))

    def run(self, *command: object) -> str:
        """Runs a command as a user would, to its end; what it said.

        The first word is a module of the project, or a script in `launch/`.
        """
        return self.during(lambda _: None, *command)

    def during(
        self, act: Callable[[subprocess.Popen], object], *command: object, status: int = 0
    ) -> str:
        """As `run`, and `act` is called with the process while it runs."""
        began = time.monotonic()
        words = [str(word) for word in command]
        program = [str(ROOT / words[0])] if words[0].endswith(".py") else ["-m", words[0]]
        said = self.folder / f"{self.name}.log"
        # Until a child is a program of its own, its peak is that of the tests' process.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        with open(said, "w+", encoding="utf-8") as log:
            child = subprocess.Popen(
                [sys.executable, *program, *words[1:]],
                cwd=self.folder,
                env=_environment(self.folder),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                act(child)
            except BaseException:
                os.kill(child.pid, signal.SIGKILL)  # Popen's own would ask how it ended, and forget
                raise
            finally:
                _, ended, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(ended)
            log.seek(0)
            text = log.read()
        # Of the process, or of the largest one that it waited for.
        peak = usage.ru_maxrss * 1024 / 1e9
        seconds, cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime
        figures = {"seconds": round(seconds), "cpu": round(cpu), "peak_gb": round(peak, 2)}
        self.rows.append({"command": " ".join(words), **figures})
        assert child.returncode == status, f"{words}: {child.returncode}\n{text[-4000:]}"
        assert peak < MOST_GB, f"{words} took {peak:.1f} GB"
        return text


def is_running(child: subprocess.Popen) -> bool:
    """Whether it has not ended; what it took stays to be asked for."""
    asked = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child.pid, asked) is None


def _environment(folder: pathlib.Path) -> dict[str, str]:
    """A person's: the tests' own devices are eight pretended ones."""
    mine = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    programs = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax"), "JAX_PLATFORMS": "cpu"}
    return {**mine, **programs, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def step(request) -> Step:
    """The step that a test is; skipped where it passed in this folder before."""
    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip(f"takes hours: name a work folder in {FOLDER}, see tests/full_size/README.md")
    path = pathlib.Path(folder).absolute()
    path.mkdir(exist_ok=True)
    made = Step(path, request.node.name.removeprefix("test_"))
    if made.kept.is_file():
        pytest.skip(f"passed before: {made.kept}")
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """A step that passed is not repeated."""
    report = yield
    if call.when == "call" and report.passed and "step" in getattr(item, "funcargs", {}):
        item.funcargs["step"].keep()
    return report
