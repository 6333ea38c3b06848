"""Selection: against enumeration, against HiGHS, its bound, quotas, and the files it writes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.inputs.listing import read_listing
from data_prep.selection import low_level_metrics, select
from data_prep.selection.low_level_metrics import METRICS, SCHEMA
from vqa_jax.jobs.files import CorpusError


def mean_distance(bins, targets, chosen):
    shares = [np.bincount(b[chosen], minlength=targets.shape[1]) / chosen.sum() for b in bins]
    return np.abs(np.stack(shares) - targets).sum(axis=1).mean() / 2


def table(num, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=num)
    columns = {name: common + rng.normal(size=num) + shift for name in METRICS}
    columns["flicker"] = np.exp(columns["flicker"])
    labels = {
        "path": [f"/videos/{i:05d}.mp4" for i in range(num)],
        "source": rng.choice(["a", "b", "c"], num, p=[0.5, 0.3, 0.2]),
        "licence": ["CC0"] * num,
        "split": [""] * num,
    }
    return pa.table(labels | columns).select(SCHEMA.names)


@pytest.mark.parametrize("num", [4_000, 17_000])
def test_many_rows_match_as_well_as_the_bound_allows(num):
    """4,000 of 20,000 can match the target; 17,000 cannot, and the bound says so."""
    rows = table(20_000, 2)
    target = select.target_of([table(3_000, 3, 0.5)[name].to_numpy() for name in METRICS])
    found = select.select(rows, target, num, {}, 0)
    bins, shares = target.bins_of([rows[n].to_numpy() for n in METRICS]), target.share_table()
    before = mean_distance(bins, shares, np.ones(20_000, bool))
    assert found.chosen.sum() == num and before > 0.05
    np.testing.assert_allclose(found.distances.mean(), mean_distance(bins, shares, found.chosen))
    assert found.gap < 0.002
    if num == 4_000:
        assert found.distances.max() < 0.01
    else:
        assert found.bound > 0.03  # and no random selection is below it
        for seed in range(3):
            chance = np.random.default_rng(seed).permutation(20_000) < num
            assert mean_distance(bins, shares, chance) > found.bound


def test_quotas_hold_and_equal_seeds_select_equally():
    rows, target = (
        table(5_000, 4),
        select.target_of([table(1_000, 5, 0.3)[name].to_numpy() for name in METRICS]),
    )
    quotas = {"b": 0.25, "c": 0.75}
    first, again, other = (select.select(rows, target, 401, quotas, s).chosen for s in (0, 0, 1))
    taken = np.asarray(rows["source"].to_pylist())[first]
    assert {name: int((taken == name).sum()) for name in "abc"} == {"a": 0, "b": 100, "c": 301}
    assert (first == again).all() and (first != other).any()
    with pytest.raises(CorpusError, match="source 'c'"):
        select.select(rows, target, 3_000, quotas, 0)


def test_quota_counts_add_up():
    assert select.quota_counts({"a": 0.2, "b": 0.2, "c": 0.25, "d": 0.35}, 7) == {
        "a": 1,
        "b": 1,
        "c": 2,
        "d": 3,
    }
    with pytest.raises(ValueError, match="1 in all"):
        select.quota_counts({"a": 0.5}, 10)


def test_given_histograms_of_unequal_length(tmp_path):
    path = tmp_path / "target.json"
    given = {name: {"edges": [0.0], "shares": [0.5, 0.5]} for name in METRICS}
    given["ti"] = {"edges": [-1.0, 0.0, 1.0], "shares": [0.1, 0.2, 0.3, 0.4]}
    path.write_text(json.dumps(given))
    target = select.read_target(str(path))
    assert target.bins_of([np.array([-0.5, 0.0])] * 9)[:, 0].tolist() == [0] * 8 + [1]
    assert target.bins_of([np.array([-0.5, 0.0])] * 9)[:, 1].tolist() == [1] * 8 + [2]
    assert target.share_table().shape == (9, 4)
    given["si"]["shares"] = [0.5, 0.6]
    path.write_text(json.dumps(given))
    with pytest.raises(CorpusError, match="si"):
        select.read_target(str(path))


def test_the_selection_is_a_listing_and_has_a_plot(tmp_path):
    for name, rows in (("m", table(800, 6)), ("t", table(500, 7, 0.4))):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    rows = low_level_metrics.read_metrics(str(tmp_path / "m.parquet"))
    target = select.read_target(str(tmp_path / "t.parquet"))
    found = select.select(rows, target, 100, {"a": 0.5, "b": 0.5}, 0)
    out = str(tmp_path / "selected.csv")
    select.write_selection(out, rows, found.chosen)
    select.plot(out + ".png", rows, found.chosen, target)
    listed = read_listing(out)
    assert [e.path for e in listed] == rows.filter(pa.array(found.chosen))["path"].to_pylist()
    assert {e.licence for e in listed} == {"CC0"} and {e.source for e in listed} == {"a", "b"}
    assert (tmp_path / "selected.csv.png").read_bytes().startswith(b"\x89PNG")
