"""Every typed error of the package and of its preparation has one parent."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _parents() -> dict[str, list[str]]:
    """Public class that is an error -> its bases, as the sources write them."""
    found = {}
    for top in ("vqa_jax", "data_prep"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                    assert node.name not in found, f"two errors are called {node.name}"
                    found[node.name] = bases
    return found


def test_every_public_error_derives_from_the_one_parent():
    parents = _parents()
    assert parents.pop("VqaError") == ["Exception"]
    assert {"CorpusError", "MediaError", "LimitError", "EncodeError"} <= set(parents)

    def is_told(name: str) -> bool:
        return name == "VqaError" or any(map(is_told, parents.get(name, ())))

    assert [n for n in parents if not n.startswith("_") and not is_told(n)] == []
