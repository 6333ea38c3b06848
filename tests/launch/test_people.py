"""Agreement with people, on scores whose agreement is known."""

import csv
import runpy
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.test_imports import ROOT

SCRIPT = str(ROOT / "launch" / "people.py")


@pytest.fixture
def people():
    return runpy.run_path(SCRIPT)


def test_partial_correlation_is_that_of_what_is_left(people):
    rng = np.random.default_rng(1)
    texture, noise = rng.normal(size=(2, 3000))
    kinds = np.where(rng.random(3000) < 0.5, "a", "b")
    facts = texture[:, None]
    # What agrees through the texture alone agrees no more once the texture is given.
    scores, mos = texture + 0.5 * noise, texture + 0.5 * rng.normal(size=3000)
    assert stats.spearmanr(scores, mos)[0] > 0.7
    assert abs(people["partial"](scores, mos, kinds, facts)) < 0.1
    assert people["partial"](mos + 0.1 * noise, mos, kinds, facts) > 0.9


def test_within_kinds_does_not_count_what_the_kind_tells(people):
    kinds = np.repeat(["a", "b"], 50)
    mos = np.concatenate([np.arange(50), 100 + np.arange(50)]).astype(float)
    scores = np.concatenate([np.arange(50)[::-1], 100 + np.arange(50)[::-1]]).astype(float)
    assert stats.spearmanr(scores, mos)[0] > 0
    assert people["within"](scores, mos, kinds) == pytest.approx(-1)


def test_every_run_is_counted(people, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(2)
    rows = [("path", "mos", "kind")]
    table = [("path", "score", "std")]
    for k in range(30):
        name = f"{k}.png"
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / name)
        rows.append((name, str(k), "ab"[k % 2]))
        table.append((f"elsewhere/{name}", str(k + rng.normal()), "2.0"))
    for file, lines in (("labels.csv", rows), ("ours.csv", table)):
        with open(tmp_path / file, "w", newline="") as text:
            csv.writer(text).writerows(lines)
    names = {"labels": "labels.csv", "pictures": "", "scores": "ours.csv", "runs": "runs.txt"}
    arguments = [f"--{name}={tmp_path / file}" for name, file in names.items()]
    monkeypatch.setattr(sys, "argv", [SCRIPT, *arguments])
    for _ in range(2):
        people["main"]()
    assert "30 pictures srcc 0.9" in capsys.readouterr().out
    assert len((tmp_path / "runs.txt").read_text().splitlines()) == 2


def test_teachers_are_told_with_their_mean_and_the_lead_over_them(people, tmp_path):
    """Two teachers that err on different pictures, a student that does not: the lead by hand."""
    mos = np.arange(40.0)
    first, second = mos.copy(), mos.copy()
    first[:10], second[-10:] = first[:10][::-1], second[-10:][::-1]
    names = [f"{k}.png" for k in range(40)]
    columns = [dict(zip(names, values.tolist(), strict=True)) for values in (first, second)]
    ranks = stats.rankdata(first) + stats.rankdata(second)
    mean = people["mean_of_ranks"](columns)
    np.testing.assert_allclose([mean[name] for name in names], ranks / 2)
    told = people["difference"](mos, first, mos)
    lead = 1 - stats.spearmanr(first, mos)[0]
    assert f"{lead:+.3f} [" in told
    low, high = map(float, told.partition("[")[2].rstrip("]").split(", "))
    assert 0 < low < lead < high
    table = [("video", "one", "two", "error"), *((n, 1, 2, "") for n in names)]
    with open(tmp_path / "scores.csv", "w", newline="") as text:
        csv.writer(text).writerows(table)
    found = people["read_scores"](str(tmp_path / "scores.csv"))
    assert found.keys() == {"one", "two"} and found["two"]["3.png"] == 2
