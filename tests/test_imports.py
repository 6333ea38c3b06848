"""Imports point down only, and nothing goes round in a circle: checked on the source, not at run
time, so imports inside functions count too."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = ("vqa_jax", "data_prep", "configs", "launch", "tests")

# A module may import modules of its own layer and of lower ones. The longest matching name counts.
LAYERS = {
    0: "__init__",
    1: "levels frames records prompt metrics pairs teachers "
    "clip_coding files video_table datasets decode nss score_tables gmad pair_shards "
    "media colour probe "
    "bootstrap significance benchmarks benchmark_labels benchmark_run doctor probe_child "
    "votes simulator_pairs teacher_pairs teacher_scales views ensemble "
    "teacher_registry teacher_job sampling crops pair_corpus passages "
    "work_ranges relabel_labels relabel_facts",
    2: "parallel execution weights thurstone losses flops hlo topology hosts",
    3: "models model_flops",
    # The student's own weight rules are about the student's tree: above models, unlike the rest.
    4: "pair_batch grouped_batch input_pipeline optim checkpoint metric_log bundle "
    "weights.student_io weights.student_rules weights.student_config weights.teachers",
    5: "train_step scoring motion motion_synthesis motion_pretrain motion_job anchors score_modes "
    "anchor_table anchor_pool scoring_cost level_prompt neural_teachers",
    6: "train evaluate relabel export predictor convert plan plan_shapes plan_text report "
    "anchor_choice anchor_sensitivity corpus_ranges score_table timeline export_names "
    "export_program exported",
    7: "cli anchors_cli score_cli teachers_cli benchmark_cli export_cli __main__",
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}
LIGHT = 1  # data_prep and configs import this layer only, and it imports no accelerator library
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax"}
NEVER = {"torch", "tensorflow", "pickle"}
WITHOUT_US = {"launch.serve_exported"}  # ships with exports, to where only JAX is
PICKLE_READERS = {"launch.convert_slowfast"}  # scripts that turn other people's pickles into ours


def layer(module: str) -> int:
    """Layer of a module `vqa_jax...`."""
    parts = module.split(".")[1:] or ["__init__"]
    for length in range(len(parts), 0, -1):
        found = LAYER_OF.get(".".join(parts[:length]))
        if found is not None:
            return found
    raise AssertionError(f"{module} has no layer: add it to LAYERS in tests/test_imports.py")


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


def violations(files: dict[str, tuple[str, bool]]) -> list[str]:
    """Sentences about imports that point up, sideways into other parts, or round in a circle."""
    problems = []
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in files.items():
        part = module.split(".")[0]
        uses = imported(source, module, set(files), is_package)
        graph[module] = {used for used in uses if used in files}
        for used in sorted(uses):
            top = used.split(".")[0]
            if module in WITHOUT_US and (top in PROJECT or top in NEVER):
                problems.append(f"{module} imports {used}, but it runs without the project")
            if top in NEVER and module not in PICKLE_READERS:
                problems.append(f"{module} imports {used}, which only tests may")
            if (
                module not in WITHOUT_US
                and top in HEAVY
                and (part != "vqa_jax" or layer(module) <= LIGHT)
            ):
                problems.append(f"{module} must stay light, but imports {used}")
            if top not in PROJECT:
                continue
            allowed = {part, "vqa_jax"} if part != "launch" else set(PROJECT) - {"tests"}
            if top not in allowed:
                problems.append(f"{module} imports {used}: {part} never imports {top}")
            elif top == "vqa_jax" and part == "vqa_jax" and layer(used) > layer(module):
                problems.append(
                    f"{module} (layer {layer(module)}) imports {used} (layer {layer(used)})"
                )
            elif top == "vqa_jax" and part in ("data_prep", "configs") and layer(used) > LIGHT:
                problems.append(f"{module} imports {used} of layer {layer(used)}, not {LIGHT}")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append("circle of imports: " + " <- ".join(error.args[1]))
    return problems


def test_project_imports_point_down():
    files = read_project()
    assert {"vqa_jax.levels", "vqa_jax.models.student", "data_prep.build"} <= files.keys()
    assert violations(files) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("vqa_jax.levels", "import jax", "must stay light"),
        ("vqa_jax.levels", "def f():\n    from vqa_jax import losses", "layer 2"),
        ("vqa_jax.models.qwen2", "from ..scoring import Engine", "layer 5"),
        ("vqa_jax.losses", "import data_prep.build", "never imports data_prep"),
        ("vqa_jax.train", "import importlib\nimportlib.import_module('configs.base')", "configs"),
        ("data_prep.build", "from vqa_jax.models import student", "not 1"),
        ("data_prep.build", "def f():\n    import flax.nnx", "must stay light"),
        ("configs.tiny", "from data_prep.config import PrepConfig", "never imports data_prep"),
        ("vqa_jax.bundle", "import torch", "only tests may"),
        ("vqa_jax.levels", "from vqa_jax.frames import probe", "circle"),
        ("vqa_jax.surprise", "from vqa_jax import levels", None),
    ],
)
def test_forbidden_import_is_found(module, source, complaint):
    files = {name: ("", False) for name in ("vqa_jax.losses", "vqa_jax.scoring", "data_prep.build")}
    files["vqa_jax.models"] = ("", True)
    files["vqa_jax.models.student"] = ("", False)
    files["vqa_jax.frames"] = ("from vqa_jax import levels", False)
    files["vqa_jax.levels"] = ("import numpy", False)
    assert violations(files) == []
    files[module] = (source, False)
    if complaint is None:
        with pytest.raises(AssertionError, match="has no layer"):
            violations(files)
    else:
        assert any(complaint in problem for problem in violations(files))
