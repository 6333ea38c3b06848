"""Tests mirror the code: a module has a test file of its name, and a test file names a module."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Folder of the code -> folder of its tests.
MIRRORED = {"vqa_jax": "tests", "data_prep": "tests/data_prep"}
# Tests of no module: of the whole, of scripts, or against other programs.
WHOLE = ("faults", "parity", "browser", "launch", "fixtures", "full_size")
# Modules without a test file of their name -> why.
WITHOUT = {
    "vqa_jax/cli/anchors.py": "arguments alone; cli/test_main.py, scoring/test_anchor_sources.py",
    "vqa_jax/cli/exchange.py": "arguments alone; exchange/test_convert.py, test_exported.py run it",
    "vqa_jax/cli/loop.py": "arguments alone; cli/test_main.py and faults/test_kill.py run it",
    "vqa_jax/report/run_page.py": "parts of one page, which report/test_run.py reads as a whole",
    "vqa_jax/report/run_results.py": "parts of one page, which report/test_run.py reads as a whole",
}


def _has_code(package: pathlib.Path) -> bool:
    """Whether a package's own file is more than a docstring and imports."""
    body = ast.parse(package.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)


def _wanted() -> dict[str, str]:
    """Module -> its test file; a package that defines something has one of its folder's name."""
    found = {}
    for top, tests in MIRRORED.items():
        for path in sorted((ROOT / top).rglob("*.py")):
            folder = path.parent.relative_to(ROOT / top)
            name = path.stem
            if name == "__main__" or (name == "__init__" and not folder.name):
                continue  # the front doors, which cli/test_main.py and test_packages.py open
            if name == "__init__":
                if not _has_code(path):
                    continue
                name = folder.name
            wanted = pathlib.PurePosixPath(tests, folder.as_posix(), f"test_{name}.py")
            found[path.relative_to(ROOT).as_posix()] = str(wanted)
    return found


def test_every_module_has_a_test_file_of_its_name_or_a_reason():
    missing = {module for module, test in _wanted().items() if not (ROOT / test).is_file()}
    assert missing == WITHOUT.keys()


def test_every_test_file_names_a_module():
    """`test_step_sharded.py` is of the module `step`: an aspect of its own may follow the name."""
    known = set(_wanted().values())
    for path in sorted((ROOT / "tests").glob("*/**/test_*.py")):
        folder = path.parent.relative_to(ROOT)
        if folder.parts[1] in WHOLE:
            continue
        words = path.stem.split("_")
        names = {f"{folder.as_posix()}/{'_'.join(words[:n])}.py" for n in range(2, len(words) + 1)}
        assert names & known, f"{path.relative_to(ROOT)} is of no module of that name"
