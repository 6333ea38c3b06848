"""Where compiled programs are kept, and when not."""

import os
import pathlib
import subprocess
import sys

import pytest

from vqa_jax.devices import programs
from vqa_jax.devices.processor import processor

ROOT = pathlib.Path(__file__).resolve().parents[2]
_COMPILE = """
import jax, jax.numpy as jnp
from vqa_jax.devices import programs
from vqa_jax.devices.processor import processor
programs.keep()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
f = jax.jit(lambda x: jnp.sin(x) @ x.T)
assert f(jnp.ones((3, 3))).shape == (3, 3)
print(jax.config.jax_compilation_cache_dir)
"""


def _run(tmp_path, **variables) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}
    return subprocess.run(
        [sys.executable, "-c", _COMPILE], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_programs_are_kept_in_the_cache_folder(tmp_path):
    done = _run(tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "cache" / "vqa_jax").iterdir()
    assert done.stdout.strip() == str(folder) and any(folder.iterdir())
    assert processor() in folder.name


@pytest.mark.parametrize(
    ("variables", "used"),
    [({"VQA_JAX_CACHE": "off"}, "None"), ({"JAX_COMPILATION_CACHE_DIR": "{}/mine"}, "{}/mine")],
)
def test_a_person_may_choose(tmp_path, variables, used):
    done = _run(tmp_path, **{k: v.format(tmp_path) for k, v in variables.items()})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == used.format(tmp_path) and not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_only_warns(tmp_path):
    (tmp_path / "cache").touch()
    done = _run(tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == "None"
    assert "VQA_JAX_CACHE=off" in done.stderr and "Traceback" not in done.stderr


def test_the_cache_folder_is_the_systems(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "platform", "linux")
    assert programs.folder().parent == pathlib.Path("/home/me/.cache/vqa_jax")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert programs.folder().parent == pathlib.Path("/home/me/Library/Caches/vqa_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert programs.folder().parent == pathlib.Path("/fast/vqa_jax")
