"""What a student sees: its auxiliary head's kinds, pictures and motion apart, scores of places."""

import dataclasses
import io
import json
import types

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.fixtures import cell_student, noise_video, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.cli import main
from vqa_jax.media.container import UnreadableFileError
from vqa_jax.motion import extractor
from vqa_jax.scoring import explanation
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.settings import DecodeLimits, ScoreConfig
from vqa_jax.weights.flaw_head import FlawHead, HeadError


@pytest.fixture(scope="module")
def student(known):
    """The corpus's student, whose motion features say nothing."""
    with tiny_corpus.student_at_work(known) as found:
        yield found


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A video whose left half is dark."""
    shade = np.where(np.arange(64) < 32, 0.2, 1.0)[None, :, None]
    pictures = [(p * shade).astype(np.uint8) for p in noise_video.noise(2)]
    return noise_video.write(tmp_path_factory.mktemp("half") / "half.mp4", pictures)


def test_the_dark_places_have_the_lower_scores_and_their_colour(student, half):
    found = explanation.explain(student, half)
    left = [p.score for p in found.places if p.right <= 0.5]
    right = [p.score for p in found.places if p.left >= 0.5]
    assert left and right and max(left) < min(right)
    assert all(0 <= p.top < p.bottom <= 1 and 0 <= p.left < p.right <= 1 for p in found.places)
    assert found.score == pytest.approx(student.score(half).score, abs=1e-6)
    # Its motion features are the same for every video, and a still's.
    near = TOLERANCES["served_score"]["atol"]
    assert found.motion is not None and abs(found.pictures - found.motion) > near
    heat = np.asarray(Image.open(io.BytesIO(found.heat))).astype(int)
    assert heat.shape == (48, 64, 3)


def test_kinds_are_the_heads_softmax_over_levels():
    rng = np.random.default_rng(1)
    head = FlawHead(rng.normal(size=(6, 7)), rng.normal(size=7), ("blur", "noise"))
    means = rng.normal(size=(3, 6))
    undistorted, flaws = explanation._flaws(head, means)
    shares = np.exp(means.mean(axis=0) @ head.kernel + head.bias)
    shares /= shares.sum()
    wanted = {"blur": shares[1:4], "noise": shares[4:]}
    assert undistorted == pytest.approx(shares[0])
    assert [f.probability for f in flaws] == sorted((f.probability for f in flaws), reverse=True)
    for flaw in flaws:
        of_kind = wanted[flaw.kind]
        assert flaw.probability == pytest.approx(of_kind.sum()) and flaw.levels == 3
        assert flaw.level == pytest.approx((of_kind * (1, 2, 3)).sum() / of_kind.sum())


def test_cells_of_a_frozen_tower_stand_for_the_whole_frame_in_turn():
    engine = types.SimpleNamespace(spec=cell_student.spec())
    student = types.SimpleNamespace(engine=engine)
    tokens = np.random.default_rng(0).normal(size=(3, 1, 4, 5)).astype(np.float16)
    video = VideoInput(tokens, np.zeros((1, 2), np.float32))
    parts, places = explanation._places(student, video, (300, 400))
    assert places == [(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0.5, 0, 1, 0.5), (0.5, 0.5, 1, 1)]
    for cell, part in enumerate(parts):
        assert part.frames.shape == tokens.shape
        assert (part.frames == tokens[:, :, [cell]]).all()


def test_whole_frames_have_no_places():
    pre = dataclasses.replace(tiny_corpus.PREPROCESS, view="squash")
    spec = types.SimpleNamespace(tower="", preprocess=pre)
    student = types.SimpleNamespace(engine=types.SimpleNamespace(spec=spec))
    video = VideoInput(np.zeros((1, 2, 16, 16, 3), np.uint8), np.zeros((1, 2), np.float32))
    assert explanation._places(student, video, (30, 40)) == ([], [])


def test_a_student_without_a_head_is_refused_by_name():
    student = types.SimpleNamespace(flaw_head=None, folder="runs/x/student")
    with pytest.raises(HeadError, match=r"runs/x/student has no .*train\.severity_weight"):
        explanation.explain(student, "a.mp4")


def test_a_url_has_the_time_that_was_given(student):
    store = fsspec.filesystem("memory")
    store.pipe("/explained.mp4", b"long")
    with pytest.raises(UnreadableFileError, match="took longer than 1e-09 s"):
        config = ScoreConfig(limits=DecodeLimits(seconds=1e-9))
        explanation.explain(student, "memory://explained.mp4", config)
    store.rm("/explained.mp4")


def test_the_command_writes_a_page_and_numbers(known, half, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    out, text = tmp_path / "out", tmp_path / "text.mp4"
    text.write_text("no video")
    options = ["--student", known, "--explain", str(out)]
    assert main.main(["score", half, str(text), *options]) == 0
    said = capsys.readouterr().out
    assert "pictures alone" in said and "page: " in said
    told = json.loads((out / "explanation.json").read_text(encoding="utf-8"))
    (video,) = told["videos"]
    assert video["path"] == half and len(video["flaws"]) == 1 and "nearest" in told["not"]
    assert {"score", "pictures", "motion", "places", "undistorted"} <= video.keys()
    assert "heat" not in video
    page = (out / "explanation.html").read_text(encoding="utf-8")
    assert "half.mp4" in page and page.count("data:image/jpeg") == 1
    assert main.main(["score", half, *options, "--out", str(tmp_path / "parts")]) == 2
