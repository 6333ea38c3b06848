"""What `pip install .` brings: scoring alone, and nothing that scoring does not need."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from tests.fixtures import tiny_corpus
from vqa_jax import extras

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Imported names of what scoring must do without, whatever else is installed here.
UNWANTED = (
    *("apache_beam", "array_record", "cv2", "fsspec", "grain", "jinja2", "matplotlib"),
    *("ml_collections", "skimage", "sklearn", "tensorboardX", "tensorflow", "tensorflow_datasets"),
    *("torch", "transformers"),
)
LATER = ("pyarrow",)  # installed, but imported only for tables
# Imported name -> name of its distribution, where they differ.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
# A child in which these names cannot be imported, as if they were not installed.
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def _run_without(names, code, *arguments, cwd=ROOT):
    source = WITHOUT.format(names=tuple(names)) + code
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def _names(requirements):
    """Normalized names of requirements, extras and ranges left out."""
    found = (re.match(r"[A-Za-z0-9._-]+", line).group() for line in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


@pytest.mark.parametrize("student", ["tiny", pytest.param("small", marks=pytest.mark.slow)])
def test_scoring_and_its_command_need_no_extra(tmp_path, student):
    video = tiny_corpus.write_video(str(tmp_path / "a.mp4"), 1)
    code = """
from vqa_jax.cli import main
sys.exit(main.main(["score", sys.argv[1], "--csv", sys.argv[2], "--student", sys.argv[3]]))
"""
    ran = _run_without(UNWANTED + LATER, code, video, tmp_path / "scores.csv", student)
    assert ran.returncode == 0, ran.stderr
    header, row = (tmp_path / "scores.csv").read_text().splitlines()
    assert header.startswith("path,score") and row.startswith(video)


def test_requirements_are_few_and_light():
    base = _names(PROJECT["dependencies"])
    assert len(PROJECT["dependencies"]) <= 14
    assert not base & _names(DISTRIBUTIONS.get(name, name) for name in UNWANTED)


@pytest.mark.parametrize("package", sorted(extras.BRINGS))
def test_extra_that_is_named_brings_the_package(package):
    for extra in extras.BRINGS[package]:
        asked = _names(PROJECT["optional-dependencies"][extra])
        assert DISTRIBUTIONS.get(package, package).replace("_", "-").lower() in asked


def test_every_package_of_an_extra_is_known_to_the_message():
    base = _names(PROJECT["dependencies"])
    known = _names(DISTRIBUTIONS.get(name, name) for name in extras.BRINGS)
    for extra, requirements in PROJECT["optional-dependencies"].items():
        if extra != "all":
            assert _names(requirements) <= known | base


def test_exact_set_lies_in_the_ranges():
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.txt").read_text().splitlines()
    exact = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in (
            line.partition("#")[0].strip().split("==") for line in lines if "==" in line
        )
    }
    everything = [*PROJECT["dependencies"]]
    for extra in ("prep", "train", "serve", "report"):
        everything += PROJECT["optional-dependencies"][extra]
    asked = {}
    for line in everything:
        requirement = Requirement(line)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(exact[name]), line
        asked[name] = line
    assert sorted(asked) == sorted(exact)  # and each of the set is asked for by someone


def test_missing_package_names_its_extra():
    with (
        pytest.raises(extras.MissingExtraError, match=r'pip install "vqa_jax\[train\]"'),
        extras.asked_for(),
    ):
        raise ModuleNotFoundError("No module named 'grain.python'", name="grain.python")
    with (
        pytest.raises(extras.MissingExtraError, match=r"vqa_jax\[prep\]"),
        extras.asked_for("prep"),
    ):
        raise ModuleNotFoundError("", name="array_record")
    with pytest.raises(ModuleNotFoundError, match="ours"), extras.asked_for():
        raise ModuleNotFoundError("ours", name="vqa_jax.gone")


CONFIG = ["--config", "tiny"]


@pytest.mark.parametrize(
    ("program", "command", "absent", "extra"),
    [
        (
            "data_prep.__main__",
            ["build", *CONFIG, "--videos", "v", "--data", "d"],
            "apache_beam",
            "prep",
        ),
        (
            "data_prep.__main__",
            ["build", *CONFIG, "--videos", "v", "--data", "d"],
            "ml_collections",
            "prep",
        ),
        ("vqa_jax.__main__", ["plan", *CONFIG, "--topology", "v5e-8"], "cv2", "plan"),
        ("vqa_jax.__main__", ["report", "--run", "gone"], "jinja2", "report"),
    ],
)
def test_command_without_its_extra_says_so_in_one_line(program, command, absent, extra):
    code = f"""
import runpy
sys.argv[0] = "program"
runpy.run_module({program!r}, run_name="__main__")
"""
    ran = _run_without([absent], code, *command)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert f'pip install "vqa_jax[{extra}]"' in ran.stderr
