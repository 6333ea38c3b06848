"""Kill -9 of scoring, conversion and export at random moments: the same bytes in the end."""

import pathlib
import sys

import pytest
from safetensors.numpy import save_file

from tests.fixtures import killed, tiny_corpus
from tests.fixtures.foreign_student import CONFIG_JSON, tensors_of
from vqa_jax.cli import main
from vqa_jax.exchange import convert, export
from vqa_jax.jobs import files
from vqa_jax.jobs.replaced import names_below
from vqa_jax.motion import extractor
from vqa_jax.scoring import job

ROOT = pathlib.Path(__file__).resolve().parents[2]
KILLS = 20


def _score(folder: str, student: str, table: str, told=None) -> None:
    extractor.load_extractor = tiny_corpus.StubExtractor
    job.UNIT = 2
    if told:
        told.set()
    sys.exit(main.main(["score", folder, "--student", student, "--csv", table, "--quiet"]))


def _convert(source: str, out: str, told=None) -> None:
    if told:
        told.set()
    convert.convert([source], out, dtype="bfloat16")


def _export(student: str, out: str, form: str, told=None) -> None:
    if told:
        told.set()
    export.export(student, out, form)


@pytest.fixture(autouse=True)
def _paths_of_children(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def _bytes(folder) -> dict[str, bytes]:
    return {name: (pathlib.Path(folder) / name).read_bytes() for name in names_below(str(folder))}


@pytest.mark.slow
def test_kill_9_during_scoring(known, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(8):
        tiny_corpus.write_video(str(videos / f"{k}.mp4"), k % 4, 90 + k)
    (videos / "broken.mp4").write_text("no video")
    quiet, other = str(tmp_path / "quiet.csv"), str(tmp_path / "killed.csv")
    killed.until_done(_score, str(videos), known, quiet, kills=0, most_seconds=0, seed=0)
    arguments = (_score, str(videos), known, other)
    count = killed.until_done(*arguments, kills=KILLS, most_seconds=15.0, seed=2)
    assert count >= KILLS // 2
    assert pathlib.Path(other).read_bytes() == pathlib.Path(quiet).read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*.csv*")) == ["killed.csv", "quiet.csv"]


@pytest.mark.slow
def test_kill_9_during_conversion(tmp_path):
    source, quiet, other = tmp_path / "source", str(tmp_path / "quiet"), str(tmp_path / "killed")
    source.mkdir()
    save_file(tensors_of("original"), source / "model.safetensors")
    files.write_json(str(source / "config.json"), CONFIG_JSON)
    convert.convert([str(source)], quiet, dtype="bfloat16")
    convert.convert([str(source)], other, dtype="float32")  # what is to be replaced
    arguments = (_convert, str(source), other)
    assert killed.until_done(*arguments, kills=KILLS, most_seconds=1.0, seed=3) >= KILLS // 4
    assert _bytes(other) == _bytes(quiet)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_kill_9_during_export(known, tmp_path, form):
    quiet, other = str(tmp_path / "quiet"), str(tmp_path / "killed")
    export.export(known, quiet, form)
    export.export(known, other, "safetensors" if form == "orbax" else "orbax")
    arguments = (_export, known, other, form)
    assert killed.until_done(*arguments, kills=KILLS, most_seconds=10.0, seed=4) >= KILLS // 2
    found, wanted = _bytes(other), _bytes(quiet)
    assert found.keys() == wanted.keys()
    if form == "safetensors":  # Orbax's own bookkeeping holds the time
        assert found == wanted
