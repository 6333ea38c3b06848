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
