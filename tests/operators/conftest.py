"""What the tests of pipelines share."""

import functools
import pathlib
import re
from collections.abc import Callable

import pytest

import vqa_jax
from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.motion import extractor

_load = functools.cache(loading.load)  # one student for all: its programs are its own
PAGE = pathlib.Path(__file__).resolve().parents[2] / "vqa_jax" / "operators" / "README.md"


@pytest.fixture
def clips(tmp_path, monkeypatch) -> list[str]:
    """Videos of three qualities and a file that is none, for the student `known`."""
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    monkeypatch.setattr(loading, "load", _load)
    monkeypatch.setitem(vars(vqa_jax), "load", _load)  # which keeps what it was asked for
    (tmp_path / "text.mp4").write_text("no video")
    good = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k) for k in (0, 1, 3)]
    return [*good, str(tmp_path / "text.mp4")]


@pytest.fixture(scope="session")
def snippet() -> Callable[..., dict]:
    """Runs the page's code below a heading, with another student; returns its names."""

    def run(heading: str, student: str, **names) -> dict:
        text = PAGE.read_text(encoding="utf-8").split(f"## {heading}")[1]
        code = re.search(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1]
        assert '"small"' in code
        exec(code.replace('"small"', repr(student)), names)
        return names

    return run
