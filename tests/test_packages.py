"""Every folder with modules is installed, under its name."""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    there = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("vqa_jax", "data_prep")
        for path in (ROOT / top).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted([*there, "vqa_jax.configs"])
