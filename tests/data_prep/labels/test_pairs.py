"""The first iteration's pairs, from a video table made by hand: what they name and are called."""

import csv
import dataclasses
import itertools
import os
import pathlib

import numpy as np
import pytest

from data_prep.labels.pairs import ON_SOURCES, label_pairs
from data_prep.prepare.config import PairConfig
from tests.fixtures import hand_table
from vqa_jax.benchmarks import score_tables
from vqa_jax.corpus import pair_shards
from vqa_jax.corpus import store as records
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import files
from vqa_jax.pairs.levels import LEVELS

CONFIG = PairConfig(
    seed=0,
    simulator_per_label=12,
    teachers_per_label=20,
    unite="rank",
    std_floor=3.0,
    num_shards=3,
)


@pytest.fixture
def data(tmp_path) -> str:
    hand_table.write(tmp_path, hand_table.rows())
    return str(tmp_path)


def pairs_of(data: str, split: str | None = None) -> list[dict]:
    store = records.RecordStore(data, "vqa_pairs_1", "vqa_pairs", split)
    return list(store.records())


def table_of(data: str) -> dict[str, dict]:
    return {r["video_id"]: r for r in read_video_table(data)}


def test_simulator_pairs_follow_the_order_of_levels(data):
    label_pairs(data, CONFIG)
    table = table_of(data)
    found = set()
    for pair in pairs_of(data):
        kind, _, simulator = pair["label_source"].partition(":")
        if kind != "simulator":
            continue
        first, second = table[pair["first_id"]], table[pair["second_id"]]
        assert (first["source_id"], first["segment"]) == (second["source_id"], second["segment"])
        assert {first["simulator"], second["simulator"]} <= {"source", simulator}
        # Worked out anew: the higher level is the worse one, by one level or by more.
        worse = second["level"] > first["level"]
        near = abs(second["level"] - first["level"]) == 1
        label = LEVELS[pair["label"]]
        assert label == (
            ("worse" if near else "inferior") if worse else ("better" if near else "superior")
        )
        assert pair["margin"] == first["level"] - second["level"]
        assert pair["level_probs"].tolist() == [float(x == label) for x in LEVELS]
        found.add((simulator, label))
    assert found == set(
        itertools.product(hand_table.SIMULATORS, [x for x in LEVELS if x != "similar"])
    )


def test_ineffective_levels_are_in_no_pair(data):
    label_pairs(data, CONFIG)
    table = table_of(data)
    for pair in pairs_of(data):
        assert table[pair["first_id"]]["effective"] and table[pair["second_id"]]["effective"]


def test_splits_share_no_source(data):
    manifest = label_pairs(data, CONFIG)
    table = table_of(data)
    for split in ("train", "heldout"):
        pairs = pairs_of(data, split)
        sources = {table[p[k]]["source_id"] for p in pairs for k in ("first_id", "second_id")}
        assert sources <= {source for source, s in hand_table.SPLITS.items() if s == split}
        assert len(pairs) == manifest["counts"][split] > 0
    # All simulator pairs of what is held out: 2 segments of C(5, 2) blur and C(3, 2) jitter ones.
    assert manifest["counts"]["heldout"] == 2 * (10 + 3)
    assert {p["label_source"].split(":")[0] for p in pairs_of(data, "heldout")} == {"simulator"}


def test_quotas_labels_and_keys(data):
    manifest = label_pairs(data, CONFIG)
    pairs = pairs_of(data)
    counts = {x: sum(LEVELS[p["label"]] == x for p in pairs) for x in LEVELS}
    assert manifest["labels"] == counts
    keys = [frozenset((p["first_id"], p["second_id"], p["label_source"])) for p in pairs]
    assert len(set(keys)) == len(pairs)
    train = pairs_of(data, "train")
    by_simulators = [p for p in train if p["label_source"].startswith("simulator:")]
    assert len(by_simulators) == 4 * CONFIG.simulator_per_label
    assert {p["iteration"] for p in pairs} == {1}


def test_the_same_again_and_other_settings(data):
    manifest = label_pairs(data, CONFIG)
    shards = manifest["dataset"]["vqa_pairs_1"]
    assert label_pairs(data, CONFIG) == manifest
    with pytest.raises(files.CorpusError, match=r"pairs_1\.json was made with other settings"):
        label_pairs(data, dataclasses.replace(CONFIG, seed=1))
    path = pair_shards.manifest_path(data, 1)
    os.remove(path)
    other = label_pairs(data, dataclasses.replace(CONFIG, seed=1))
    assert other["dataset"]["vqa_pairs_1"] != shards
    os.remove(path)
    assert label_pairs(data, CONFIG) == manifest


def _scores_csv(path, rows) -> str:
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["video", "model"], *rows])
    return str(path)


def test_imported_scores_vote(data, tmp_path):
    """A model that contradicts the built-in teachers turns the teachers' labels, and only those."""
    alone = label_pairs(data, CONFIG)
    before = {p["pair_id"]: p for p in pairs_of(data)}
    turned = [(key, 100 * r["level"]) for key, r in table_of(data).items()]
    csv_path = _scores_csv(tmp_path / "scores.csv", turned)
    with pytest.raises(files.CorpusError, match="other settings"):
        label_pairs(data, CONFIG, [csv_path])
    os.remove(pair_shards.manifest_path(data, 1))
    together = label_pairs(data, CONFIG, [csv_path])
    assert together["identity"] != alone["identity"]
    after = {p["pair_id"]: p for p in pairs_of(data)}
    by_simulator = {k for k in after if "simulator:" in k}
    assert by_simulator == {k for k in before if "simulator:" in k}
    spread = [p["first_std"] for k, p in after.items() if k not in by_simulator]
    alone_spread = [p["first_std"] for k, p in before.items() if k not in by_simulator]
    assert np.mean(spread) > 5 * np.mean(alone_spread)


def test_manifest_tells_of_the_teachers(data, tmp_path):
    train = [r for r in table_of(data).values() if r["split"] == "train" and r["effective"]]
    scored = [r for r in train if r["level"] or r["segment"]]
    rows = [(r["video_id"], 5 - r["level"] + 0.1 * k) for k, r in enumerate(scored)]
    lower = [(key, -7 * score) for key, score in rows]
    paths = [_scores_csv(tmp_path / "a.csv", rows), str(tmp_path / "b.csv")]
    with open(paths[1], "w", encoding="utf-8") as f:
        f.write("path,upside_down\n" + "".join(f"{k},{v}\n" for k, v in lower))
    config = dataclasses.replace(CONFIG, unite="logistic", lower_is_better=("upside_down",))
    manifest = label_pairs(data, config, paths)
    told = manifest["teachers"]
    assert list(told) == ["noise", "sharpness", "model", "upside_down"]
    assert told["model"]["missing"] == len(train) - len(scored) == 3
    assert told["model"]["videos"] == len(scored) and told["noise"]["missing"] == 0
    fits = [told[name]["logistic"] for name in ("model", "upside_down")]
    assert fits[1]["width"] == pytest.approx(-7 * fits[0]["width"], rel=1e-4)
    assert fits[1]["centre"] == pytest.approx(-7 * fits[0]["centre"], rel=1e-4)
    assert files.read_json(pair_shards.manifest_path(data, 1)) == manifest
    assert label_pairs(data, config, paths[::-1]) == manifest
    pairs = [p for p in pairs_of(data, "train") if p["label_source"] == "teachers"]
    assert sum(manifest["drawn"]["teachers"].values()) == len(pairs) > 0
    floor = config.std_floor
    for pair in pairs:
        deviation = max(np.hypot(pair["first_std"], pair["second_std"]), floor)
        assert pair["normalized_margin"] == pytest.approx(pair["margin"] / deviation, rel=1e-4)


def test_numbers_by_kind_and_by_share(data):
    config = dataclasses.replace(
        CONFIG,
        simulator_per_label={"spatial": 6, "temporal": {"total": 4}},
        teachers_per_label={"total": 20, "similar": 1, "better": 2, "worse": 2},
    )
    manifest = label_pairs(data, config)
    simulators = [p["label_source"] for p in pairs_of(data, "train")]
    assert simulators.count("simulator:gaussian_blur") == 24
    assert simulators.count("simulator:jitter") == 4
    assert list(manifest["drawn"]["teachers"].values()) == [0, 8, 4, 8, 0]
    assert label_pairs(data, config) == manifest
    os.remove(pair_shards.manifest_path(data, 1))
    with pytest.raises(ValueError, match="beside kinds"):
        label_pairs(data, dataclasses.replace(config, simulator_per_label={"spatial": 1, "x": 2}))


def test_teachers_have_no_say_where_simulators_know_the_order(data):
    label_pairs(data, dataclasses.replace(CONFIG, teachers_per_label=10_000))
    known = {source["video_id"]: source for source in table_of(data).values()}
    by_teachers = [p for p in pairs_of(data, "train") if p["label_source"] == "teachers"]
    assert by_teachers
    for pair in by_teachers:
        first, second = known[pair["first_id"]], known[pair["second_id"]]
        assert (first["source_id"], first["segment"]) != (second["source_id"], second["segment"])
    unordered = [frozenset((p["first_id"], p["second_id"])) for p in pairs_of(data)]
    assert len(set(unordered)) == len(unordered)


def test_corpora_that_give_no_pairs_are_refused(data, tmp_path):
    with pytest.raises(files.CorpusError, match="no training pair"):
        label_pairs(data, dataclasses.replace(CONFIG, simulator_per_label=0, teachers_per_label=0))
    rows = list(table_of(data).values())
    (tmp_path / "videos.parquet").write_text("[]")
    with pytest.raises(files.CorpusError, match="was changed"):
        label_pairs(data, CONFIG)
    hand_table.write(tmp_path, [r for r in rows if r["split"] == "heldout"])
    with pytest.raises(files.CorpusError, match="no training video"):
        label_pairs(data, CONFIG)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(files.CorpusError, match=r"manifest\.json is missing"):
        label_pairs(data, CONFIG)


def test_votes_of_nobody_are_refused_and_the_simulators_need_none(tmp_path):
    hand_table.write(tmp_path, [{**row, "scores": {}} for row in hand_table.rows()])
    with pytest.raises(score_tables.ScoresError, match="give --scores FILE"):
        label_pairs(str(tmp_path), CONFIG)
    label_pairs(str(tmp_path), dataclasses.replace(CONFIG, teachers_per_label=0))
    assert pairs_of(str(tmp_path), "train")


def test_pairs_across_sources_are_drawn_and_counted_where_asked_for(data):
    manifest = label_pairs(data, dataclasses.replace(CONFIG, across=4))
    table = table_of(data)
    pairs = [p for p in pairs_of(data, "train") if p["label_source"] == "simulator:across"]
    assert len(pairs) == sum(manifest["drawn"]["across"].values()) > 0
    for pair in pairs:
        first, second = table[pair["first_id"]], table[pair["second_id"]]
        assert first["source_id"] != second["source_id"]
        assert {first["level"] == 0, second["level"] == 0} == {True, False}
        assert LEVELS[pair["label"]] == ("inferior" if first["level"] == 0 else "superior")
    assert "across" not in PairConfig().as_json()


def test_votes_on_undistorted_sources_are_drawn_where_asked_for(data):
    label_pairs(data, dataclasses.replace(CONFIG, teachers_on_sources=4))
    table = table_of(data)
    pairs = [p for p in pairs_of(data, "train") if p["label_source"] == ON_SOURCES]
    assert pairs
    for pair in pairs:
        first, second = table[pair["first_id"]], table[pair["second_id"]]
        assert first["level"] == second["level"] == 0
        assert first["source_id"] != second["source_id"] or first["segment"] != second["segment"]
    assert "teachers_on_sources" not in PairConfig().as_json()


def test_teachers_vote_on_no_version_by_simulators_that_they_have_upside_down(tmp_path):
    """Both teachers like jitter: its versions are in no pair that votes label."""
    rows = hand_table.rows()
    for row in rows:
        if row["simulator"] == "jitter":
            row["scores"] = {"sharpness": 1 + row["level"], "noise": 1 - row["level"]}
    hand_table.write(tmp_path, rows)
    data = str(tmp_path)
    manifest = label_pairs(data, dataclasses.replace(CONFIG, teachers_order=0.6))
    assert manifest["teachers_order"] == {"gaussian_blur": 1.0, "jitter": 0.0}
    table, train = table_of(data), pairs_of(data, "train")
    by_votes = [p for p in train if p["label_source"] == "teachers"]
    named = {table[p[k]]["simulator"] for p in by_votes for k in ("first_id", "second_id")}
    assert named == {"source", "gaussian_blur"}
    assert "simulator:jitter" in {p["label_source"] for p in train}  # its order is known
    assert "teachers_order" not in PairConfig().as_json()


def test_sources_without_a_vote_are_in_no_pair_where_that_is_asked_for(tmp_path):
    rows = hand_table.rows()
    for row in rows:
        if row["source_id"] == "s2":
            row["scores"] = dict.fromkeys(row["scores"], float("nan"))
    hand_table.write(tmp_path, rows)
    label_pairs(str(tmp_path), dataclasses.replace(CONFIG, voted_only=True, across=4))
    table = table_of(str(tmp_path))
    pairs = pairs_of(str(tmp_path), "train")
    sources = {table[p[key]]["source_id"] for p in pairs for key in ("first_id", "second_id")}
    assert sources == {"s1", "s3"}
    assert "voted_only" not in PairConfig().as_json()


def test_permuted_labels_are_dealt_among_the_same_pairs(data, tmp_path_factory):
    label_pairs(data, CONFIG)
    other = str(tmp_path_factory.mktemp("permuted"))
    hand_table.write(pathlib.Path(other), hand_table.rows())
    label_pairs(other, dataclasses.replace(CONFIG, permuted=True))
    one, two = ({p["pair_id"]: p for p in pairs_of(folder)} for folder in (data, other))
    assert one.keys() == two.keys()
    assert any(one[key]["label"] != two[key]["label"] for key in one)
    for source in {p["label_source"] for p in one.values()}:
        both = (
            sorted(p["label"] for p in found.values() if p["label_source"] == source)
            for found in (one, two)
        )
        assert next(both) == next(both)
