"""What leaving one anchor out does, against scoring without it."""

import json

import numpy as np
import pytest
from scipy import stats

from tests.fixtures.known_qualities import QUALITIES, SCORES, judge_of
from vqa_jax.cli import main
from vqa_jax.report import anchors as page
from vqa_jax.scoring import sensitivity


def test_leaving_an_anchor_out_is_scoring_without_it(tmp_path):
    judge = judge_of()
    tests = np.linspace(-1, 1, 9)
    probabilities = stats.norm.cdf(tests[:, None] - np.array(QUALITIES))
    found = page.examine(judge, probabilities)
    page.write(judge, found, len(probabilities), str(tmp_path))
    full = np.array([s.score for s in judge.scale.solve(probabilities)])
    for i, row in enumerate(found):
        kept = [k for k in range(5) if k != i]
        fewer = judge_of(None, [QUALITIES[k] for k in kept], [SCORES[k] for k in kept]).scale
        alone = np.array([s.score for s in fewer.solve(probabilities[:, kept])])
        assert row.mean_shift == pytest.approx(np.abs(alone - full).mean())
        assert row.largest_shift == pytest.approx(np.abs(alone - full).max())
        itself = stats.norm.cdf(QUALITIES[i] - np.array(QUALITIES))[None, kept]
        assert row.predicted == pytest.approx(fewer.solve(itself)[0].score)
        assert row.srcc == pytest.approx(1)
    written = json.loads((tmp_path / "anchor_sensitivity.json").read_text())
    assert written["videos"] == 9 and len(written["anchors"]) == 5
    text = page.render(found, str(tmp_path))
    assert "mean shift" in text and len(text.splitlines()) == 7
    with pytest.raises(ValueError, match="three and two"):
        sensitivity.without_each_anchor(["a", "b"], [0, 1], np.eye(2), probabilities[:, :2])


def test_files_without_a_score_are_told_even_if_too_few_are_left(known, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    arguments = ["anchor_sensitivity", str(broken), "--student", str(known)]
    assert main.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().out
    assert "0 videos" in told and "broken.mp4" in told
