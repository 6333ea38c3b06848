"""Imports go to lower floors only, and nothing goes round in a circle.

Checked on the source, not at run time, so imports inside functions count too."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = ("vqa_jax", "data_prep", "configs", "launch", "tests")

# A module imports its own folder and what stands on lower floors. The longest matching name counts.
FLOORS = {
    -1: "vqa_jax.errors",
    0: "vqa_jax vqa_jax.settings vqa_jax.extras vqa_jax.terminal",
    1: "vqa_jax.media vqa_jax.pairs vqa_jax.jobs vqa_jax.devices",
    2: "vqa_jax.models",
    3: "vqa_jax.corpus vqa_jax.benchmarks vqa_jax.weights",
    4: "vqa_jax.motion vqa_jax.training",
    5: "vqa_jax.teachers vqa_jax.scoring",
    6: "vqa_jax.loop vqa_jax.planning vqa_jax.exchange vqa_jax.report data_prep",
    7: "vqa_jax.loading vqa_jax.encodes vqa_jax.configs configs",
    8: "vqa_jax.operators vqa_jax.serving",
    9: "vqa_jax.cli",
    10: "vqa_jax.__main__ data_prep.commands",
    11: "data_prep.__main__ launch",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
# Light: no file in it imports an accelerator library, nor anything of ours that does.
LIGHT = (
    *(
        "vqa_jax.errors",
        "vqa_jax.settings",
        "vqa_jax.extras",
        "vqa_jax.terminal",
        "vqa_jax.media",
        "vqa_jax.pairs",
        "vqa_jax.jobs",
    ),
    *("vqa_jax.corpus", "vqa_jax.benchmarks", "data_prep", "configs"),
    *("vqa_jax.teachers.measures", "vqa_jax.teachers.nss", "vqa_jax.teachers.cards"),
    "vqa_jax.teachers.known",
    "vqa_jax.teachers.looks",
    *("vqa_jax.teachers.scales", "vqa_jax.teachers.views", "vqa_jax.teachers.corpus_scores"),
    *("vqa_jax.teachers.agreement", "vqa_jax.teachers.job", "vqa_jax.teachers.vmaf"),
    *("vqa_jax.teachers.light.model", "vqa_jax.teachers.light.regression"),
    *("vqa_jax.teachers.light.folds", "vqa_jax.teachers.light.statistics"),
    "vqa_jax.teachers.light.fitting",
    *("vqa_jax.cli.command", "vqa_jax.cli.config", "vqa_jax.cli.urls"),
)
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax"}
# transformers runs code that a folder of weights brings, if it is let.
NEVER = {"torch", "tensorflow", "pickle", "transformers"}
# Goes with exports to where only JAX is; for video files it takes what needs neither JAX nor us
# installed.
WITHOUT_US = {"launch.serve_exported": ("vqa_jax.media", "vqa_jax.errors")}
# Scripts that turn other people's pickles into ours.
PICKLE_READERS = {
    "launch.convert_slowfast",
    "launch.convert_efficientnet_lite",
    "launch.convert_uvq",
}
TORCH_USERS = PICKLE_READERS | {"launch.gpu_check.peers"}  # or time other people's models


def place(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in FLOOR_OF and (name != "vqa_jax" or length == len(parts)):
            return name
    raise AssertionError(f"{module} has no floor: add it to FLOORS in tests/test_imports.py")


def is_light(module: str) -> bool:
    """Whether a module belongs to what must not import JAX."""
    return any(module == name or module.startswith(name + ".") for name in LIGHT)


def imported(source: str, module: str, modules: set[str], is_package: bool = False) -> set[str]:
    """Modules that a module's source imports anywhere in it, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: None if is_package else -1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in modules else base)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return found


def read_project() -> dict[str, tuple[str, bool]]:
    """Full name -> (source, whether it is a package) of the project's modules, without tests."""
    files = {}
    for top in ("vqa_jax", "data_prep", "configs", "launch"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            files[name] = (path.read_text(encoding="utf-8"), is_package)
    return files


def _complaint(module: str, used: str, modules: set[str]) -> str | None:
    """What is wrong with an import, if anything."""
    top = used.split(".")[0]
    if module in WITHOUT_US and (top in PROJECT or top in NEVER):
        if used.startswith(WITHOUT_US[module]):
            return None
        return f"{module} imports {used}, but it runs without the project"
    if module in WITHOUT_US:
        return None
    if top in NEVER and module not in TORCH_USERS:
        return f"{module} imports {used}, which only tests may"
    if is_light(module) and top in HEAVY:
        return f"{module} must stay light, but imports {used}"
    if top == "tests":
        return f"{module} imports {used}: only tests import tests"
    if top not in PROJECT:
        return None
    here, there = place(module), place(used)
    if here != there and FLOOR_OF[there] >= FLOOR_OF[here]:
        return f"{module} (floor {FLOOR_OF[here]}) imports {used} (floor {FLOOR_OF[there]})"
    if is_light(module) and not is_light(used) and used in modules and FLOOR_OF[there]:
        return f"{module} must stay light, but imports {used}"
    return None


def violations(files: dict[str, tuple[str, bool]]) -> list[str]:
    """Sentences about imports that point up, sideways into other rooms, or round in a circle."""
    problems = []
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in files.items():
        place(module)
        uses = imported(source, module, set(files), is_package)
        graph[module] = {used for used in uses if used in files}
        found = (_complaint(module, used, set(files)) for used in sorted(uses))
        problems += [complaint for complaint in found if complaint]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append("circle of imports: " + " <- ".join(error.args[1]))
    return problems


def test_project_imports_point_down():
    files = read_project()
    assert {"vqa_jax.pairs.levels", "vqa_jax.models.student", "data_prep.prepare.job"} <= set(files)
    assert violations(files) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("vqa_jax.pairs.levels", "import jax", "must stay light"),
        ("vqa_jax.pairs.levels", "def f():\n    from vqa_jax.training import losses", "floor 4"),
        ("vqa_jax.models.qwen2", "from ..scoring.engine import Engine", "floor 5"),
        ("vqa_jax.training.losses", "import data_prep.prepare.job", "floor 6"),
        (
            "vqa_jax.training.train",
            "import importlib\nimportlib.import_module('configs.base')",
            "configs",
        ),
        ("data_prep.prepare.job", "from vqa_jax.models import student", "must stay light"),
        ("data_prep.prepare.job", "def f():\n    import flax.nnx", "must stay light"),
        ("vqa_jax.media.view", "from vqa_jax.pairs import levels", "floor 1"),
        ("vqa_jax.weights.bundle", "import torch", "only tests may"),
        ("vqa_jax.pairs.levels", "from vqa_jax.pairs.table import Pair", "circle"),
        ("vqa_jax.training.losses", "from tests.fixtures import tolerances", "only tests"),
        ("vqa_jax.surprise.box", "import numpy", None),
    ],
)
def test_forbidden_import_is_found(module, source, complaint):
    names = (
        "vqa_jax vqa_jax.models vqa_jax.training vqa_jax.models.student vqa_jax.training.losses "
        "vqa_jax.scoring.engine data_prep.prepare.job configs.base vqa_jax.media.view"
    )
    files = {name: ("", False) for name in names.split()}
    files["vqa_jax.pairs"] = ("", True)
    files["vqa_jax.pairs.table"] = ("from vqa_jax.pairs import levels", False)
    files["vqa_jax.pairs.levels"] = ("import numpy", False)
    assert violations(files) == []
    files[module] = (source, False)
    if complaint is None:
        with pytest.raises(AssertionError, match="has no floor"):
            violations(files)
    else:
        assert any(complaint in problem for problem in violations(files))
