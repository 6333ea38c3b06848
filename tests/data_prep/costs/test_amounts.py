"""Numbers of segments and versions: those that preparation itself would deal and make."""

import collections

import pytest

from configs import paper
from data_prep.costs import amounts
from data_prep.inputs import listing, source
from data_prep.prepare import job, pools, segments
from data_prep.prepare.config import PrepConfig
from data_prep.simulators import SIMULATORS, Clip
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.jobs.files import CorpusError
from vqa_jax.media.probe import VideoInfo


def _dealt(config: PrepConfig, count: int, clip: Clip) -> collections.Counter:
    """(split, simulator) -> versions of made-up files, by the functions that preparation calls."""
    keys = [f"{k}.mp4" for k in range(count)]
    splits = pools.assign_splits(dict.fromkeys(keys, ""), config.heldout_fraction)
    ids = {key: source.source_id(key) for key in keys}
    training = [ids[key] for key in keys if splits[key] == "train"]
    pool = pools.assign_pools(training, config.pools)
    size = (clip.width, clip.height, clip.fps, clip.num_frames)
    info = VideoInfo("", "", "", *size, clip.num_frames / clip.fps)
    found = collections.Counter()
    for key in keys:
        of = source.Source(ids[key], key, splits[key], info, (0, 0, ""), pool.get(ids[key], "all"))
        train = splits[key] == "train"
        wanted = config.segments_per_source if train else config.heldout_segments
        length = segments.segment_length(clip.fps, clip.num_frames, config)
        for k, _ in enumerate(segments.segment_starts(clip.num_frames, length, wanted)):
            found[splits[key], "source"] += 1
            for name in segments.segment_simulators(of, k, config):
                found[splits[key], name] += len(SIMULATORS[name].parameters)
    return found


@pytest.mark.parametrize("per_segment", [0, 1, 2])
@pytest.mark.parametrize("pooled", [False, True])
def test_as_many_versions_are_planned_as_preparation_deals(per_segment, pooled):
    clip = Clip(60, 90, 160, 25.0)
    some = {"name": "still", "simulators": ("resize", "darken"), "sources": 400}
    other = {"name": "moving", "simulators": ("stutter", "h264", "jitter"), "sources": 0.3}
    changes = {"simulators_per_segment": per_segment, "pools": (some, other) if pooled else ()}
    config = prep_corpus.config(heldout_segments=2, **changes)
    dealt = _dealt(config, 2000, clip)
    found = amounts.planned(config, 2000, [clip])
    # A split's size is rounded to one file; which simulator comes first is drawn by key hash.
    assert {k for k, n in found.versions.items() if n} == set(dealt)
    for key, number in dealt.items():
        assert found.versions[key] == pytest.approx(number, rel=0.15), key
    assert found.videos() == pytest.approx(dealt.total(), rel=0.01)
    assert found.segments() == dealt["train", "source"] + dealt["heldout", "source"]


def test_the_papers_amounts_are_those_of_the_method():
    config = PrepConfig.from_dict(paper.get_config().prep.to_dict())
    found = amounts.planned(config, amounts.paper_inputs(config))
    assert found.segments("train") == pytest.approx(280_000)
    assert found.versions["train", "gaussian_blur"] == pytest.approx(10_000 * 5)  # one of five
    assert found.versions["train", "stutter"] == pytest.approx(10_000 * 3)
    assert found.versions["train", "h265"] == pytest.approx(5_000 * 4)
    heldout = 280_000 / 0.98 * 0.02
    assert found.videos("heldout") == pytest.approx(heldout * (1 + 5 * 5 + 2 * 3 + 2 * 4))
    # With the undistorted one there are 15 pairs of five levels, 6 of three, 10 of four.
    assert found.simulator_pairs("train") == pytest.approx(50_000 * 15 + 20_000 * 6 + 10_000 * 10)
    assert found.simulator_pairs("heldout") == pytest.approx(heldout * (75 + 12 + 20))


def test_a_corpus_that_is_there_is_counted(tmp_path):
    config = prep_corpus.config()
    for k in range(3):
        broken_files.encode(tmp_path / f"{k}.mp4", broken_files.moving_frames(20 + k, 48, 80))
    (tmp_path / "bad.mp4").write_text("no video")
    data = str(tmp_path / "corpus")
    assert amounts.counted(data) is None
    manifest = job.build(str(tmp_path), data, config)
    found = amounts.counted(data)
    assert found.inputs == 4 and found.videos() == manifest["counts"]["videos"]
    assert found.segments() == sum(n for (_, name), n in found.versions.items() if name == "source")
    assert found.versions["heldout", "gaussian_blur"] == 5 * found.segments("heldout")


def test_some_files_of_a_listing_tell_its_sizes(tmp_path):
    for name, frames in (("a.mp4", 20), ("b.mp4", 40)):
        broken_files.encode(tmp_path / name, broken_files.moving_frames(frames, 48, 80))
    (tmp_path / "bad.mp4").write_text("no video")
    found = amounts.sampled(listing.read_listing(str(tmp_path)))
    assert sorted(clip.num_frames for clip in found) == [20, 40]
    assert {(clip.height, clip.width) for clip in found} == {(48, 80)}
    with pytest.raises(CorpusError, match="none of 1 files looked into"):
        amounts.sampled([listing.Input(str(tmp_path / "bad.mp4"), "bad.mp4")])


def test_a_segment_is_what_is_cut():
    config = prep_corpus.config(segment_seconds=2.0, window=(100, 0))
    assert amounts.segment(Clip(300, 720, 1280, 30.0), config) == Clip(60, 720, 100, 30.0)
    assert amounts.segment(Clip(30, 40, 64, 30.0), config) == Clip(30, 40, 64, 30.0)
    assert amounts.megapixels(Clip(10, 100, 200, 30.0)) == pytest.approx(0.2)
