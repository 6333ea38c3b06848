"""The next iteration's pairs, found by a stub student whose one mistake is known."""

import dataclasses
import itertools
import os
import shutil

import numpy as np
import pytest
from pyarrow import parquet
from scipy import stats

from configs import paper
from tests.fixtures import tiny_corpus
from tests.fixtures.stub_student import RELABEL as CONFIG
from tests.fixtures.stub_student import StubEngine, digests, judge_of
from vqa_jax import settings as settings_lib
from vqa_jax.corpus import pair_shards
from vqa_jax.corpus import store as records
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import files
from vqa_jax.loop import relabel
from vqa_jax.pairs import levels
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.settings import SettingsError


@pytest.fixture(scope="module")
def student():
    return judge_of(StubEngine(), "student 1")


def _read(data, iteration):
    store = records.RecordStore(data, pair_shards.dataset_name(iteration), "vqa_pairs", "train")
    return list(store.records())


def _unordered(pairs):
    return [frozenset((p["first_id"], p["second_id"])) for p in pairs]


@pytest.fixture(scope="module")
def relabelled(corpus, student, tmp_path_factory):
    data = str(shutil.copytree(corpus, tmp_path_factory.mktemp("relabelled") / "data"))
    before = digests(data)
    facts = relabel.relabel(student, data, 2, CONFIG)
    return data, before, facts


def _level(video_id):
    return int(video_id.rsplit("-", 1)[1])


def test_all_and_only_the_misordered_new_pairs_are_taken_with_the_simulators_label(
    relabelled, corpus
):
    data, _, facts = relabelled
    earlier = set(_unordered(_read(data, 1)))
    hard = [p for p in _read(data, 2) if p["label_source"].startswith("simulator:")]
    expected = {
        frozenset((tiny_corpus.video_id(s, 1), tiny_corpus.video_id(s, 2))) for s in range(12)
    } - earlier
    assert expected and set(_unordered(hard)) == expected
    for pair in hard:
        order = (_level(pair["first_id"]), _level(pair["second_id"]))
        label = levels.label_from_severity(*order)
        assert levels.LEVELS[pair["label"]] == label
        np.testing.assert_array_equal(pair["level_probs"], levels.level_probs(label))
        assert pair["iteration"] == 2
    assert facts["misordered"] == facts["misordered_taken"] == len(expected)
    assert facts["misordered_by_simulator"] == {tiny_corpus.SIMULATOR: len(expected)}


def test_gmad_pairs_carry_the_students_soft_label_and_join_different_segments(relabelled, student):
    data, _, facts = relabelled
    engine = student.engine
    found = [p for p in _read(data, 2) if p["label_source"] == "student"]
    assert len(found) == facts["gmad"] == CONFIG.gmad_quota
    assert facts["gmad_by_attacker"].keys() <= {"student", "weak"}
    videos = records.RecordStore(data, "vqa_videos")
    for pair in found:
        one, other = pair["first_id"], pair["second_id"]
        assert one.split("-")[0] != other.split("-")[0]  # else the simulator knows the order
        quality = [
            next(engine.encode([VideoInput(videos[v]["frames"][:, 2:18, 2:18], None)]))
            for v in (one, other)
        ]
        forward = np.exp(engine.compare([(quality[0], quality[1])])[0])
        backward = np.exp(engine.compare([(quality[1], quality[0])])[0])
        np.testing.assert_allclose(pair["level_probs"], (forward + backward[::-1]) / 2, atol=1e-5)
        assert pair["label"] == int(np.argmax(pair["level_probs"]))
        # The label points the way the student's scores do.
        assert np.sign(pair["margin"]) == np.sign(pair["level_probs"] @ np.arange(5) - 2)
        np.testing.assert_allclose(
            pair["margin"], pair["second_mean"] - pair["first_mean"], atol=1e-5
        )
    uses = itertools.chain.from_iterable((p["first_id"], p["second_id"]) for p in found)
    counts = np.unique(list(uses), return_counts=True)[1]
    assert counts.max() <= CONFIG.max_per_video  # over both teachers


def test_only_training_videos_and_no_pair_twice(relabelled):
    data, _, facts = relabelled
    split = {r["video_id"]: r["split"] for r in read_video_table(data)}
    new = _read(data, 2)
    assert {split[p[k]] for p in new for k in ("first_id", "second_id")} == {"train"}
    everything = _unordered(_read(data, 1)) + _unordered(new)
    assert len(set(everything)) == len(everything)
    assert len(new) == facts["gmad"] + facts["misordered_taken"]


def test_everything_that_was_there_is_untouched(relabelled):
    data, before, _ = relabelled
    after = digests(data)
    assert {path: after[path] for path in before} == before
    new = {os.path.relpath(p, data).split(os.sep)[0] for p in after.keys() - before.keys()}
    assert new == {"vqa_pairs_2", "pairs_2.json", "relabel_2.json", "relabel_2"}


def test_rerun_is_kept_and_another_student_or_quota_refused(relabelled, student, monkeypatch):
    data, _, facts = relabelled
    state = digests(data)
    another = judge_of(StubEngine(), "student 2")
    monkeypatch.setattr(StubEngine, "encode", None)
    assert relabel.relabel(student, data, 2, CONFIG) == facts
    assert digests(data) == state
    other = dataclasses.replace(CONFIG, gmad_quota=3)
    for judge, config in ((another, CONFIG), (student, other)):
        with pytest.raises(files.CorpusError, match="other settings or models"):
            relabel.relabel(judge, data, 2, config)


def test_interrupted_rerun_writes_the_same_bytes(relabelled, student, tmp_path):
    data, _, facts = relabelled
    copy = str(shutil.copytree(data, tmp_path / "data"))
    os.remove(os.path.join(copy, "relabel_2.json"))  # killed just before the end
    assert relabel.relabel(student, copy, 2, CONFIG) == facts
    relative = {os.path.relpath(p, copy): d for p, d in digests(copy).items()}
    assert relative == {os.path.relpath(p, data): d for p, d in digests(data).items()}


def test_third_iteration_repeats_nothing_of_the_first_two(relabelled, student, tmp_path):
    copy = str(shutil.copytree(relabelled[0], tmp_path / "data"))
    relabel.relabel(judge_of(StubEngine(), "student 2"), copy, 3, CONFIG)
    seen = set(_unordered(_read(copy, 1) + _read(copy, 2)))
    third = _unordered(_read(copy, 3))
    assert third and not seen & set(third)


def test_quota_takes_the_most_confidently_wrong_and_the_pool_whole_segments(
    corpus, student, tmp_path
):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    config = dataclasses.replace(CONFIG, misordered_quota=1, gmad_quota=2, pool_segments=8)
    table = read_video_table(data)
    pool = relabel.choose_pool(table, config)
    assert len(pool) == 8 * (tiny_corpus.NUM_LEVELS + 1)
    assert {r["split"] for r in pool} == {"train"}
    assert relabel.choose_pool(table[::-1], config) == pool[::-1]  # whatever the order
    facts = relabel.relabel(student, data, 2, config)
    assert facts["misordered_taken"] == 1 < facts["misordered"]
    assert facts["pool_videos"] == len(pool)
    used = {p[k] for p in _read(data, 2) for k in ("first_id", "second_id")}
    assert used <= {r["video_id"] for r in pool}


def test_missing_earlier_iteration_is_named(corpus, student, tmp_path):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    with pytest.raises(files.CorpusError, match="vqa_pairs_2"):
        relabel.relabel(student, data, 3, CONFIG)


def test_nothing_hard_is_said(corpus, student, tmp_path, monkeypatch):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    monkeypatch.setattr(relabel, "misordered", lambda *_: [])
    config = dataclasses.replace(CONFIG, gmad_quota=0)
    said = r"pool holds \d+ videos of \d+ segments; the student orders all .* quota is 0"
    with pytest.raises(files.CorpusError, match=said):
        relabel.relabel(student, data, 2, config)


def _told(data):
    return parquet.read_table(os.path.join(data, "relabel_2", "pairs.parquet")).to_pylist()


def test_each_group_of_simulators_has_its_quota(corpus, student, tmp_path):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    pools = (
        {"name": "spatial", "simulators": (tiny_corpus.SIMULATOR, "blur"), "pairs": 1},
        {"name": "temporal", "simulators": ("jitter",), "pairs": 5},
    )
    config = dataclasses.replace(CONFIG, misordered_pools=pools, gmad_quota=0)
    facts = relabel.relabel(student, data, 2, config)
    assert facts["misordered_taken"] == 1 < facts["misordered"]
    # The most confidently wrong one, and nothing of a group without a misordered pair.
    everything = str(shutil.copytree(corpus, tmp_path / "everything"))
    relabel.relabel(student, everything, 2, dataclasses.replace(CONFIG, gmad_quota=0))
    sure = [abs(p["preference"] - 0.5) for p in _told(everything)]
    assert [abs(p["preference"] - 0.5) for p in _told(data)] == [max(sure)]


def test_ensemble_labels_follow_the_teachers_rule_with_the_student_among_them(
    corpus, student, tmp_path
):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    relabel.relabel(student, data, 2, dataclasses.replace(CONFIG, labels="ensemble"))
    videos = parquet.read_table(os.path.join(data, "relabel_2", "videos.parquet")).to_pylist()
    q = {row["video_id"]: row["q"] for row in videos}
    pool = list(relabel.choose_pool(read_video_table(data), CONFIG))
    # The rule by hand: percentile ranks of each, and "noise" is better when lower.
    raw = [
        [r["scores"]["sharpness"] for r in pool],
        [-r["scores"]["noise"] for r in pool],
        [q[r["video_id"]] for r in pool],
    ]
    ranks = np.stack([100 * (stats.rankdata(x) - 0.5) / len(pool) for x in raw], axis=1)
    number = {r["video_id"]: k for k, r in enumerate(pool)}
    found = {(p["first_id"], p["second_id"]): p for p in _told(data) if p["kind"] == "gmad"}
    assert len(found) == CONFIG.gmad_quota
    for stored in _read(data, 2):
        ends = stored["first_id"], stored["second_id"]
        if ends in found:
            first, second = (ranks[number[key]] for key in ends)
            label = levels.label_from_teachers(first, second, CONFIG.std_floor)
            assert levels.LEVELS[stored["label"]] == label == found[ends]["label"]
            np.testing.assert_array_equal(stored["level_probs"], levels.level_probs(label))
            old = levels.label_from_teachers(first[:2], second[:2], CONFIG.std_floor)
            assert found[ends]["old_label"] == old
    with pytest.raises(ValueError, match="ensemble"):
        dataclasses.replace(CONFIG, labels="nobody")


def test_narrower_xi_keeps_the_defenders_scores_closer(corpus, student, tmp_path):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    config = dataclasses.replace(CONFIG, xi=0.25, gmad_quota=30)
    relabel.relabel(student, data, 2, config)
    videos = parquet.read_table(os.path.join(data, "relabel_2", "videos.parquet")).to_pylist()
    q = {row["video_id"]: row["q"] for row in videos}
    width = np.subtract(*np.percentile(list(q.values()), [99, 1])) / CONFIG.num_bins
    attacked = [p for p in _told(data) if p["attacker"] == "weak"]
    gaps = [abs(q[p["first_id"]] - q[p["second_id"]]) for p in attacked]
    assert gaps and max(gaps) <= width / 4


def test_paper_adds_a_hundred_thousand_pairs_an_iteration():
    for iteration in ("2", "3"):
        settings = settings_lib.RelabelConfig(**paper.get_config(iteration).relabel.to_dict())
        pools = {pool["name"]: pool["pairs"] for pool in settings.misordered_pools}
        assert pools == {"spatial": 5000, "temporal": 5000, "streaming": 5000}
        assert settings.gmad_quota == 85_000 and settings.num_bins == 20
        assert settings.max_per_video == 8 and settings.xi == 1.0  # method 7's defaults


def test_random_pairs_are_as_many_and_new_and_not_the_hard_ones(
    relabelled, corpus, student, tmp_path
):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    facts = relabel.relabel(student, data, 2, dataclasses.replace(CONFIG, choice="random"))
    hard = relabelled[2]
    for name in ("misordered", "misordered_taken", "gmad", "pool_videos"):
        assert facts[name] == hard[name]
    assert set(_unordered(_read(data, 2))).isdisjoint(_unordered(_read(data, 1)))
    simulated = [p for p in _told(data) if p["kind"] == "misordered"]
    # Of all new pairs: the student's one mistake is about levels 1 and 2.
    levels_of = [{_level(p["first_id"]), _level(p["second_id"])} for p in simulated]
    assert len(levels_of) == hard["misordered_taken"] and any(x != {1, 2} for x in levels_of)
    assert set(_unordered(_read(data, 2))) != set(_unordered(_read(relabelled[0], 2)))
    with pytest.raises(SettingsError, match="hard or random"):
        dataclasses.replace(CONFIG, choice="easy")
