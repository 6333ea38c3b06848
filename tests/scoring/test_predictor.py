"""The Python entry point: published checkpoints, our students, files that fail."""

import asyncio
import os
import shutil

import fsspec
import jax
import numpy as np
import pytest

from tests.fixtures import broken_files, isolated_work, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import loading
from vqa_jax.errors import VqaError
from vqa_jax.media import decode, probe, view
from vqa_jax.media.container import MediaError
from vqa_jax.motion import extractor
from vqa_jax.pairs import levels
from vqa_jax.scoring import anchors
from vqa_jax.settings import DecodeLimits, ScoreConfig
from vqa_jax.weights import bundle


@pytest.fixture(scope="module")
def student(known):
    """The corpus's student, whose motion features say nothing; no test may change it."""
    with tiny_corpus.student_at_work(known) as found:
        yield found


def test_published_names_give_the_published_level_logits(shared):
    golden = np.load(shared / "golden/lmm_pair/io.npz")
    found = loading.load(shared / "golden/lmm_pair").level_logits(
        (golden["frames_0"], golden["frames_1"]),
        (golden["motion_0"], golden["motion_1"]),
        golden["input_ids"].tolist(),
        golden["level_ids"].tolist(),
    )
    np.testing.assert_allclose(found, golden["level_logits"], **TOLERANCES["level_logits"])


def test_model_without_tokenizer_or_preprocessing_says_what_is_missing(shared):
    student = loading.load(shared / "golden/lmm_pair")
    frames = (np.zeros((1, 8, 8, 3), np.uint8),) * 2
    with pytest.raises(bundle.BundleError, match="input_ids"):
        student.level_logits(frames, (np.zeros((1, 8), np.float32),) * 2)
    with pytest.raises(bundle.BundleError, match="only level_logits"):
        _ = student.engine


def test_files_are_scored_in_order_and_bad_ones_become_rows(student, tmp_path):
    bright = tiny_corpus.write_video(str(tmp_path / "b right.mp4"), 0)
    dark = tiny_corpus.write_video(str(tmp_path / "d\u00e4rk.MP4"), 3)
    text = tmp_path / "text.mp4"
    text.write_text("this is no video")
    results = student.score([bright, str(text), dark, tmp_path / "gone.mp4"])
    assert [r.path for r in results] == [bright, str(text), dark, str(tmp_path / "gone.mp4")]
    for result in results:
        assert (result.score is None) is not (result.error is None)
        assert result.model == student.fingerprint and "arbitrary" in result.scale
    assert results[0].score > results[2].score
    assert results[0].std > 0
    assert results[1].std is None and "[" in results[1].error
    single = student.score(bright)
    assert single.score == pytest.approx(results[0].score, abs=1e-6)


def test_every_kind_of_broken_file_is_a_result(student, tmp_path):
    made = {}
    for name, (make, *_) in {**broken_files.REFUSED, **broken_files.USABLE}.items():
        (tmp_path / name).mkdir()
        made[name] = str(make(tmp_path / name))
    results = list(student.iter_scores(made.values()))
    assert [r.path for r in results] == list(made.values())
    for name, result in zip(made, results, strict=True):
        assert (result.error is not None) is (name in broken_files.REFUSED), (name, result)
        assert (result.score is None) is (name in broken_files.REFUSED), (name, result)


def test_what_is_cut_off_is_said_and_a_decoder_that_dies_is_a_row(student, tmp_path, monkeypatch):
    whole = str(broken_files.encode(tmp_path / "whole.mp4"))
    half = str(broken_files.USABLE["cut_off_index_first"][0](tmp_path))
    found = student.score([whole, half])
    left = probe.probe(half).num_frames
    assert [r.notes for r in found] == ["", f"{left} of 24 frames"] and found[1].score is not None
    monkeypatch.setattr(view, "video_input", isolated_work.die_at_once)
    dead = student.score([half, whole])
    assert all("broke the process" in r.error and r.notes == "" for r in dead)
    monkeypatch.undo()
    slow = student.score([whole], ScoreConfig(limits=DecodeLimits(seconds=1e-6)))[0]
    assert "took longer than" in slow.error and student.score(whole).error is None


def test_level_logits_default_to_the_scoring_prompt(student):
    frames = [tiny_corpus.tiles(0, level)[:1, 2:18, 2:18] for level in (0, 3)]
    motion_features = [np.zeros((1, tiny_corpus.MOTION_DIM), np.float32)] * 2
    found = student.level_logits(tuple(frames), tuple(motion_features))
    assert found.shape == (5,) and found.argmax() == 0  # far darker: inferior


def test_missing_parts_are_named(known, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "SHIPPED", str(tmp_path / "shipped"))
    with pytest.raises(bundle.BundleError, match=r"shipped student\) is missing"):
        loading.load()
    with pytest.raises(bundle.BundleError, match="not a folder"):
        loading.load(tmp_path / "nowhere")
    with pytest.raises(bundle.BundleError, match="holds no student"):
        loading.load(tmp_path)
    folder = shutil.copytree(known, tmp_path / "bare")
    os.remove(folder / anchors.ANCHOR_FILE)
    with pytest.raises(anchors.AnchorError, match="vqa_jax anchors"):
        loading.load(folder).score("clip.mp4")


def test_other_motion_weights_are_refused(known, tmp_path, monkeypatch):
    class OtherExtractor(tiny_corpus.StubExtractor):
        def fingerprint(self, pre):
            return "other"

    monkeypatch.setattr(extractor, "load_extractor", OtherExtractor)
    video = tiny_corpus.write_video(str(tmp_path / "clip.mp4"), 0)
    with pytest.raises(bundle.BundleError, match="other motion weights"):
        loading.load(known).score(video)


def test_other_weights_have_another_fingerprint(known, tmp_path):
    folder = shutil.copytree(known, tmp_path / "student")
    assert bundle.fingerprint(str(folder)) == bundle.fingerprint(known)
    path = folder / bundle.WEIGHTS_FILE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert bundle.fingerprint(str(folder)) != bundle.fingerprint(known)


def test_streams_give_the_same_results_for_lists_and_asynchronous_sources(student, tmp_path):
    paths = [tiny_corpus.write_video(str(tmp_path / f"{i}.mp4"), i) for i in (0, 3)]
    paths.insert(1, str(tmp_path / "gone.mp4"))

    async def source():
        for path in paths:
            yield path

    async def gather(given):
        return [result async for result in student.stream(given)]

    wanted = student.score_many(paths)
    assert [r.error is None for r in wanted] == [True, False, True]
    for given in (paths, source()):
        found = asyncio.run(gather(given))
        assert [r.path for r in found] == paths and found[1] == wanted[1]
        for one, other in zip(found, wanted, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-3)
    assert wanted[0].comparisons == 5 and wanted[0].contradictions is None


def test_batches_that_fill_up_keep_order_and_scores(student, tmp_path, monkeypatch):
    paths = [tiny_corpus.write_video(str(tmp_path / f"{i}.mp4"), i) for i in (2, 0, 3)]
    together = student.score_many(paths)
    monkeypatch.setattr(student.engine, "batch_size", 2)  # a video is two groups: one a batch
    for one, other in zip(student.iter_scores(iter(paths)), together, strict=True):
        assert one.path == other.path and one.score == pytest.approx(other.score, abs=1e-3)


def test_any_videos_of_known_quality_are_anchors(known, tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    student = loading.load(known)  # its own: anchors stay
    for level in range(4):
        tiny_corpus.write_video(str(tmp_path / f"a{level}.mp4"), level, source=91)
    table = tmp_path / "anchors.csv"
    table.write_text("path,mos\na0.mp4,4.5\na3.mp4,1.0\na1.mp4,3.5\na2.mp4,2\n")
    clip = tiny_corpus.write_video(str(tmp_path / "clip.mp4"), 1)
    student.use_anchors(table)
    assert student.judge.anchors.scores == (1.0, 2.0, 3.5, 4.5)
    found = student.score(clip)
    assert 1 < found.score < 4.5 and found.comparisons == 4
    assert "human scores" in found.scale and "anchors.csv" in found.scale
    table.write_text("video,score\na0.mp4,9\na3.mp4,1\n")
    student.use_anchors(table)
    assert "arbitrary" in student.score(clip).scale
    for text, message in (
        ("path,mos\na0.mp4,4.5\n", "two are the least"),
        ("path,mos\na0.mp4,4.5\ngone.mp4,1\nlost.mp4,2\n", "gone.mp4.*lost.mp4"),
        ("path,mos\na0.mp4,good\na1.mp4,2\n", "good"),
        ("path,mos\na0.mp4,1\na3.mp4,5\n", "against their scores"),
    ):
        table.write_text(text)
        with pytest.raises(anchors.AnchorError, match=message):
            student.use_anchors(table)
            student.score(clip)
    with pytest.raises(anchors.AnchorError, match="missing"):
        student.use_anchors(tmp_path / "none.csv")


def _decoded(path):
    """All frames of a file uint8 [T, H, W, 3] and its frame rate."""
    return np.stack([frame for _, frame in decode.iter_frames(path)]), probe.probe(path).fps


def test_frames_at_hand_score_as_their_file(student, tmp_path):
    paths = [tiny_corpus.write_video(str(tmp_path / f"{i}.mp4"), i) for i in (0, 2)]
    frames, fps = zip(*map(_decoded, paths), strict=True)
    wanted = student.score(paths)
    found = student.score([*frames, paths[0]], fps=fps[0])
    assert [r.path for r in found] == ["", "", paths[0]]
    for one, other in zip(found, [*wanted, wanted[0]], strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert one.std == pytest.approx(other.std, abs=1e-6)
    single = student.score(frames[1], ScoreConfig(both_orders=True), fps=fps[1])
    assert single.comparisons == 10 and single.error is None


def test_a_batch_of_frames_bytes_files_and_urls_score_as_their_file(student, tmp_path):
    path = tiny_corpus.write_video(str(tmp_path / "clip.mp4"), 1)
    frames, fps = _decoded(path)
    store = fsspec.filesystem("memory")
    store.put_file(path, "/videos/clip.mp4")
    with open(path, "rb") as file, open(path, "rb") as one:
        data, url = one.read(), "memory://videos/clip.mp4"
        one.seek(0)
        found = student.score_many([path, data, file, url, data[:100]])
        alone = [student.score(given) for given in (data, one)]
    batch = student.score(jax.numpy.stack([frames, frames]), fps=fps)
    assert [r.path for r in found] == [path, "", path, url, ""]
    assert len(batch) == 2 and found[4].error is not None and "vqa_fetch" not in found[4].error
    for result in (*found[1:4], *alone, *batch):
        assert result.score == pytest.approx(found[0].score, abs=1e-4)
    assert student.compare(data, url).second_better == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(MediaError, match=r"^memory://videos/gone\.mp4: cannot be fetched"):
        student.compare(data, "memory://videos/gone.mp4")


@pytest.mark.parametrize(
    ("video", "fps", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), 10, "uint8"),
        (np.zeros((8, 8, 3), np.uint8), 10, r"\[T, H, W, 3\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), 10, r"\[T, H, W, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), 10, "one at least"),
        (np.zeros((2, 8, 8, 3), np.uint8), None, "fps"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, "fps"),
        (np.zeros((2, 8, 8, 3), np.uint8), float("nan"), "fps"),
        ([[1, 2]], 10, "array of frames"),
    ],
)
def test_what_is_no_video_says_what_is_asked_for(student, video, fps, message):
    with pytest.raises(VqaError, match=message):
        student.score(video, fps=fps)


def test_comparison_is_the_mean_of_both_orders(student, tmp_path):
    bright, dark = (tiny_corpus.write_video(str(tmp_path / f"{i}.mp4"), i) for i in (0, 2))
    found = student.compare(bright, dark)
    one, other = student.encode(bright), student.encode(dark)
    forward, backward = student.engine.compare([(one, other), (other, one)])
    probs = [np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (forward, backward)]
    wanted = (probs[0] + probs[1][::-1]) / 2
    assert tuple(found.level_probs) == levels.LEVELS
    np.testing.assert_allclose(list(found.level_probs.values()), wanted, atol=1e-5)
    assert found.second_better == pytest.approx(wanted @ [0, 0.25, 0.5, 0.75, 1], abs=1e-5)
    assert found.second_better < 0.25 and not found.contradictory  # two levels darker
    assert found.model == student.fingerprint
    swapped = student.compare(_decoded(dark)[0], bright, fps=10.0)
    assert swapped.second_better == pytest.approx(1 - found.second_better, abs=1e-5)
    with pytest.raises(MediaError, match="no such file"):
        student.compare(bright, str(tmp_path / "gone.mp4"))
