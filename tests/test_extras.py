"""Missing packages: the message is the command that installs the extra."""

import pathlib
import tomllib

import pytest

from vqa_jax import extras

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("package", "asked", "extra"),
    [
        ("grain", "", "train"),
        ("cv2.dnn", "", "prep"),
        ("cv2", "plan", "plan"),
        ("cv2", "x", "prep"),
    ],
)
def test_a_missing_package_names_the_extra_that_brings_it(package, asked, extra):
    message = rf"pip install .vqa_jax\[{extra}\]"
    with pytest.raises(extras.MissingExtraError, match=message), extras.asked_for(asked):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def test_other_missing_modules_are_left_as_they_are():
    with pytest.raises(ModuleNotFoundError, match="nothing"), extras.asked_for():
        raise ModuleNotFoundError("nothing", name="vqa_jax.nothing")


def test_every_extra_is_one_of_the_package():
    with open(ROOT / "pyproject.toml", "rb") as f:
        known = tomllib.load(f)["project"]["optional-dependencies"]
    assert {extra for brings in extras.BRINGS.values() for extra in brings} <= known.keys()
