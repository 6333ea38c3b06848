"""The video table: rows in equal rows out, compact, and readable by anybody's Parquet reader."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from vqa_jax.corpus import video_table
from vqa_jax.corpus.video_table import read_video_table, write_video_table
from vqa_jax.jobs import files
from vqa_jax.jobs.files import CorpusError
from vqa_jax.pairs import simulators as simulator_pairs


def row(k: int, **changes) -> dict:
    return {
        "video_id": f"s{k // 3}-000-blur-{k % 3}",
        "source_id": f"s{k // 3}",
        "path": f"Ünder/視頻 {k // 3}.mp4",
        "segment": 0,
        "simulator": "blur" if k % 3 else "source",
        "level": k % 3,
        "effective": k % 3 != 1,
        "parameter": '{"value": 2}',
        "split": "heldout" if k < 3 else "train",
        "num_frames": 30 + k,
        "fps": 30000 / 1001,
        "notes": "29 of 30 frames",
        "vmaf": 60.0 + k if k % 3 else None,
        "scores": {"noise": k / 7, "sharpness": -float(k)},
        **changes,
    }


ROWS = [row(k) for k in range(12)]


@pytest.fixture
def data(tmp_path) -> str:
    write_video_table(str(tmp_path), ROWS)
    return str(tmp_path)


@pytest.mark.parametrize("group", [5, 100])
def test_rows_come_back_as_they_were(tmp_path, monkeypatch, group):
    monkeypatch.setattr(video_table, "_GROUP_ROWS", group)
    monkeypatch.setattr(video_table, "_BATCH_ROWS", 4)
    digest = write_video_table(str(tmp_path), iter(ROWS))
    table = read_video_table(str(tmp_path))
    assert list(table) == ROWS and len(table) == 12
    assert table[0] == ROWS[0] and table[-1] == ROWS[-1] and list(table[2:9:3]) == ROWS[2:9:3]
    with pytest.raises(IndexError):
        table[12]
    assert digest == video_table.table_sha256(str(tmp_path))
    assert digest == write_video_table(str(tmp_path), ROWS)
    assert [p.name for p in tmp_path.iterdir()] == ["videos.parquet"]


def test_columns_without_rows(data):
    table = read_video_table(data)
    assert table.column("path").tolist() == [r["path"] for r in ROWS]
    assert table.column("level").tolist() == [r["level"] for r in ROWS]
    assert table.column("effective").tolist() == [r["effective"] for r in ROWS]
    assert table.scores().keys() == {"noise", "sharpness"}
    np.testing.assert_array_equal(table.scores()["noise"], [r["scores"]["noise"] for r in ROWS])
    some = read_video_table(data, ("video_id", "split"))
    assert next(iter(some)) == {"video_id": "s0-000-blur-0", "split": "heldout", "scores": {}}


def test_rows_are_chosen_by_value(data):
    table = read_video_table(data)
    wanted = [r for r in ROWS if r["split"] == "train" and r["effective"]]
    assert list(table.where(split="train", effective=True)) == wanted
    assert len(table.where(level=9)) == 0 and list(table.where(level=9)) == []


def test_a_strangers_reader_sees_plain_columns(data):
    columns = pq.read_table(f"{data}/videos.parquet").to_pydict()
    assert columns["path"] == [r["path"] for r in ROWS]
    assert columns["score:sharpness"] == [r["scores"]["sharpness"] for r in ROWS]


def test_missing_scores_stay_missing(tmp_path):
    write_video_table(str(tmp_path), [ROWS[0], row(1, scores={"noise": 2.0})])
    table = read_video_table(str(tmp_path))
    assert table[1]["scores"] == {"noise": 2.0}
    assert np.isnan(table.scores()["sharpness"]).tolist() == [False, True]
    write_video_table(str(tmp_path), [row(k, scores={}) for k in range(2)])
    assert [r["scores"] for r in read_video_table(str(tmp_path))] == [{}, {}]
    write_video_table(str(tmp_path), [])
    assert list(read_video_table(str(tmp_path))) == []


@pytest.mark.parametrize(
    ("change", "words"), [({"colour": 1}, "colour"), ({"scores": {"odd": 1.0}}, "odd")]
)
def test_rows_that_do_not_fit_are_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        write_video_table(str(tmp_path), [ROWS[0], row(1, **change)])
    assert list(tmp_path.iterdir()) == []


def test_missing_or_damaged_tables_are_named(tmp_path):
    for read in (read_video_table, video_table.table_sha256):
        with pytest.raises(CorpusError, match=r"videos\.parquet is missing"):
            read(str(tmp_path))
    (tmp_path / "videos.parquet").write_text("[]")
    with pytest.raises(CorpusError, match=r"videos\.parquet cannot be read"):
        read_video_table(str(tmp_path))


def test_a_table_that_is_not_the_manifests_is_named(tmp_path):
    digest = write_video_table(str(tmp_path), ROWS)
    files.write_sealed(str(tmp_path / "manifest.json"), {"video_table_sha256": digest})
    assert len(read_video_table(str(tmp_path))) == len(ROWS)
    path = tmp_path / "videos.parquet"
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"videos\.parquet is damaged.*prepare it anew"):
            read_video_table(str(tmp_path), ["video_id"])


def test_the_video_table_is_grouped_by_segment_and_simulator():
    fields = ("video_id", "source_id", "segment", "simulator", "level", "effective", "split")
    rows = [
        dict(zip(fields, row, strict=True))
        for row in (
            ("b2", "s", 0, "blur", 2, True, "train"),
            ("b1", "s", 0, "blur", 1, False, "train"),
            ("b0", "s", 0, "source", 0, True, "train"),
            ("c0", "s", 12, "source", 0, True, "train"),
            ("d0", "t", 0, "source", 0, True, "heldout"),
            ("n1", "s", 0, "noise", 1, True, "train"),
            ("c3", "s", 12, "blur", 3, True, "train"),
            ("c1", "s", 12, "blur", 1, True, "train"),
            ("d1", "t", 0, "blur", 1, True, "heldout"),
        )
    ]
    assert list(video_table.simulated_sets(rows, "train")) == [
        simulator_pairs.SimulatedSet("s-000", "blur", ((0, "b0"), (2, "b2"))),
        simulator_pairs.SimulatedSet("s-012", "blur", ((0, "c0"), (1, "c1"), (3, "c3"))),
        simulator_pairs.SimulatedSet("s-000", "noise", ((0, "b0"), (1, "n1"))),
    ]
    assert len(video_table.simulated_sets(rows, "other")) == 0
    with pytest.raises(CorpusError, match="segment s-012 has versions, but no source"):
        video_table.simulated_sets([r for r in rows if r["video_id"] != "c0"], "train")
