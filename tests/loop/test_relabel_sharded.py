"""Evaluate and relabel in ranges: interrupted, shared by processes, with unreadable videos."""

import csv
import dataclasses
import os
import pathlib
import shutil
import threading

import numpy as np
import pytest
from pyarrow import parquet

from tests.fixtures import tiny_corpus
from tests.fixtures.stub_student import RELABEL, StubEngine, digests, judge_of
from vqa_jax.corpus import shards as shards_lib
from vqa_jax.corpus import store as records
from vqa_jax.jobs import files
from vqa_jax.jobs import ranges as work_ranges
from vqa_jax.loop import evaluate, relabel
from vqa_jax.scoring import sanity

FORMS = ("csv", "parquet")
SMALL = dataclasses.replace(RELABEL, range_videos=4)  # a segment and its versions


class FlakyEngine(StubEngine):
    """Raises at its `left`-th call; counts the ranges that it has begun."""

    def __init__(self, left=10**9):
        self.left, self.begun = left, 0

    def _tick(self):
        self.left -= 1
        if self.left < 0:
            raise InterruptedError

    def encode(self, videos):
        self.begun += 1
        self._tick()
        yield from super().encode(videos)
        self._tick()

    def compare(self, pairs):
        self._tick()
        return super().compare(pairs)


def _student(left=10**9):
    """A stub student whose engine breaks at its `left`-th call."""
    engine = FlakyEngine()
    judge = judge_of(engine)
    engine.left, judge.engine.begun = left, 0
    return judge


def _relative(data):
    return {os.path.relpath(p, data): d for p, d in digests(data).items()}


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    data = str(shutil.copytree(corpus, tmp_path_factory.mktemp("quiet") / "data"))
    judge = _student()
    facts = relabel.relabel(judge, data, 2, SMALL)
    return _relative(data), facts, judge.engine.begun


def test_relabel_interrupted_ten_times_writes_the_same_bytes(
    corpus,
    undisturbed,
    tmp_path,
):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    wanted, facts, ranges = undisturbed
    assert ranges >= 12
    rng = np.random.default_rng(5)
    begun = 0
    for left in rng.integers(1, 8, 10):
        judge = _student(int(left))
        with pytest.raises(InterruptedError):
            relabel.relabel(judge, data, 2, SMALL)
        begun += judge.engine.begun
    judge = _student()
    assert relabel.relabel(judge, data, 2, SMALL) == facts
    assert begun + judge.engine.begun <= ranges + 10  # each interruption repeats one range at most
    assert _relative(data) == wanted


def test_two_processes_relabel_to_the_same_bytes(corpus, undisturbed, tmp_path):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    found, begun = {}, {}

    def job(process):
        judge = _student()
        share = work_ranges.Share(process, 2)
        found[process] = relabel.relabel(judge, data, 2, SMALL, (), share)
        begun[process] = judge.engine.begun

    threads = [threading.Thread(target=job, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wanted, facts, ranges = undisturbed
    assert facts in found.values() and all(x in (None, facts) for x in found.values())
    assert sum(begun.values()) == ranges and min(begun.values()) > 0
    assert _relative(data) == wanted
    with pytest.raises(files.CorpusError, match="0 to 1"):
        work_ranges.Share(2, 2)


def test_processes_evaluate_to_the_same_bytes(corpus, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    judge = _student()
    summary = evaluate.evaluate(judge, corpus, one, most=4)
    assert judge.engine.begun == 2
    for process, found in ((1, None), (0, summary)):
        share = work_ranges.Share(process, 2)
        assert evaluate.evaluate(judge, corpus, two, share, 4) == found
    assert judge.engine.begun == 4
    assert {os.path.basename(p): d for p, d in digests(one).items()} == {
        os.path.basename(p): d for p, d in digests(two).items()
    }
    assert sorted(os.listdir(one)) == sorted(
        [".lock", "evaluation.json", *(f"{x}.{y}" for x in ("pairs", "scores") for y in FORMS)]
    )
    with open(os.path.join(one, "scores.csv"), encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    table = parquet.read_table(os.path.join(one, "scores.parquet")).to_pylist()
    assert [float(r["score"]) for r in rows] == [r["score"] for r in table]


def _without_motion(data, lost):
    """Publishes the motion features anew, without those of `lost` videos."""
    store = records.RecordStore(data, "vqa_motion")
    shards = {}
    for split in ("train", "heldout"):
        mine = records.RecordStore(data, "vqa_motion", split=split)
        path = os.path.join(data, "work", f"again-{split}")
        shards_lib.write_shard(
            path, "vqa_motion", [r for r in mine.records() if r["video_id"] not in lost]
        )
        shards[split] = [path]
    assert set(lost) <= set(store.ids)
    shards_lib.publish(data, "vqa_motion", "vqa_motion", shards)


def test_unreadable_videos_are_rows_with_a_reason(corpus, tmp_path, monkeypatch):
    """And what there is to know of the scores of others stands beside them."""
    monkeypatch.setattr(sanity, "note", lambda score, anchors: "far")
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    lost = [tiny_corpus.video_id(12, 2), tiny_corpus.video_id(3, 0)]
    _without_motion(data, lost)
    judge = _student()
    found = evaluate.evaluate(judge, data, str(tmp_path / "out"), most=4)
    assert found["failed_videos"] == 1 and found["num_pairs"] == 6 + 3
    rows = parquet.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    bad = [r for r in rows if r["error"]]
    assert [r["video_id"] for r in bad] == lost[:1] and bad[0]["score"] is None
    assert "no motion features" in bad[0]["error"]
    assert all(r["notes"] == ("" if r["error"] else "far") for r in rows)
    facts = relabel.relabel(judge, data, 2, SMALL)
    assert facts["failed_videos"] == 1
    pairs = parquet.read_table(os.path.join(data, "relabel_2", "pairs.parquet")).to_pylist()
    assert pairs and lost[1] not in {p[k] for p in pairs for k in ("first_id", "second_id")}


def test_a_damaged_record_is_a_row_and_a_shard_without_its_index_is_named(corpus, tmp_path):
    data = str(shutil.copytree(corpus, tmp_path / "data"))
    (path,) = shards_lib.dataset_shards(data, "vqa_videos", "heldout")
    whole = pathlib.Path(path).read_bytes()
    judge = _student()
    for place, found in ((3000, None), (2**16, files.CorpusError)):
        with open(path, "wb") as f:
            f.write(whole[:place] + bytes(64) + whole[place + 64 :])
        out = str(tmp_path / f"out {place}")
        if found:
            with pytest.raises(found, match="is damaged"):
                evaluate.evaluate(judge, data, out, most=4)
        else:
            summary = evaluate.evaluate(judge, data, out, most=4)
            assert summary["failed_videos"] == 1 and summary["num_pairs"] == 6 + 3


def test_another_extractors_corpus_is_refused_before_the_work(corpus, tmp_path):
    judge = _student()
    judge.engine.spec = dataclasses.replace(judge.engine.spec, extractor="another")
    with pytest.raises(files.CorpusError, match="extractor"):
        evaluate.evaluate(judge, corpus, str(tmp_path / "out"))
    assert judge.engine.begun == 0 and not (tmp_path / "out").exists()
