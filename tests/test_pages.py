"""The README pages: links lead somewhere, commands are understood, what they name exists."""

import ast
import pathlib
import re
import shlex

import pytest

from data_prep import commands
from vqa_jax.cli import command, config, main

ROOT = pathlib.Path(__file__).resolve().parents[1]
CODE = ("vqa_jax", "data_prep", "configs", "launch", "tests")
METHOD = ROOT / "vqa_jax" / "README.md"
_MOST_LINES = 200  # of the main page
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def _pages() -> list[pathlib.Path]:
    return [ROOT / "README.md", *(p for top in CODE for p in sorted((ROOT / top).rglob("*.md")))]


def _command_lines(page: pathlib.Path) -> list[str]:
    """Commands of ours in a page's shell blocks, and in tables where $P is the interpreter."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    lines = blocks.replace("\\\n", " ").split("\n") + re.findall(r"`(\$P -m [^`]+)`", text)
    ours = r"(?:(?:\$P|python) -m (?:vqa_jax|data_prep)|vqa_jax) "
    return [line for line in lines if re.match(ours, line) and "..." not in line]


def _prose(page: pathlib.Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: pathlib.Path) -> set[str]:
    """Names by which the headings of a page can be linked to, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


def test_the_main_page_is_short_and_its_tree_has_every_folder():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= _MOST_LINES
    tree = text.split("## Layout")[1]
    named = set(re.findall(r"^ *(\w+)/ ", tree, re.MULTILINE))
    folders = {folder for top in ("vqa_jax", "data_prep") for folder in (ROOT / top).iterdir()}
    code = {folder.name for folder in folders if (folder / "__init__.py").exists()}
    assert named >= code | set(CODE)


def test_where_is_what_names_functions_that_exist():
    section = _prose(METHOD).split("## Where is what")[1].split("\n## ")[0]
    sentences = section.split("\n- ")[1:]
    assert len(sentences) >= 10
    found = [re.findall(r"`([\w/]+\.py)`,\s+`(?:\w+\.)?(\w+)`", one) for one in sentences]
    assert all(found), "a sentence without a file and a function"
    for file, name in (pair for pairs in found for pair in pairs):
        tree = ast.parse((ROOT / "vqa_jax" / file).read_text(encoding="utf-8"))
        defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, (file, name)


def test_citations_of_the_method_have_their_section():
    sections = set(re.findall(r"^##+ (\d(?:\.\d)?)", METHOD.read_text("utf-8"), re.MULTILINE))
    files = (file for top in CODE for file in (ROOT / top).rglob("*.py"))
    texts = (file.read_text(encoding="utf-8") for file in files)
    cited = {n for text in texts for n in re.findall(r"\b[Mm]ethod (\d(?:\.\d)?)", text)}
    assert len(cited) > 5 and cited <= sections


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_are_taken_by_the_parsers(page, monkeypatch):
    def parsed(program, argv):
        return program.parse_args(config.split(argv)[0])

    monkeypatch.setattr(command, "run", parsed)
    for line in _command_lines(page):
        # What is in brackets may be left out, and N and I stand for numbers.
        words = shlex.split(re.sub(r"[\[\]]", " ", line), comments=True)
        words = [{"N": "2", "I": "0"}.get(word, word) for word in words]
        start = words.index("-m") + 1 if "-m" in words else 0
        parser = {"vqa_jax": main.main, "data_prep": commands.main}[words[start]]
        try:
            parser(words[start + 1 :])
        except SystemExit:
            pytest.fail(f"not understood: {line}")
