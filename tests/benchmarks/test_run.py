"""Evaluation of score files: real predictions, weights, missing videos, differences, the page."""

import csv
import json

import numpy as np
import pytest
from scipy import stats

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks import run as benchmark_run
from vqa_jax.benchmarks.labels import LabelsError
from vqa_jax.benchmarks.sets import BenchmarkError
from vqa_jax.cli import main


@pytest.fixture
def files(tmp_path):
    """Labels of two sets and the scores of two models, of which the first is the better."""
    rng = np.random.default_rng(0)
    for name, folder, count in (("KVQ", "KVQ", 60), ("CGVDS", "clips", 40)):
        mos = rng.uniform(1, 5, count)
        good, bad = (mos + s * rng.normal(size=count) for s in (0.3, 2.0))
        rows = list(zip([f"{k:04}" for k in range(count)], mos, good, bad, strict=True))
        for kind in ("labels", "scores"):
            (tmp_path / kind).mkdir(exist_ok=True)
        with open(tmp_path / "labels" / f"{name}.csv", "w") as f:
            f.write("video,mos\n" + "".join(f"{v}.mp4,{m}\n" for v, m, *_ in rows))
        with open(tmp_path / "scores" / f"{name}.csv", "w") as f:
            f.write(
                "path,good,bad\n" + "".join(f"/x/{folder}/{v}.MP4,{a},{b}\n" for v, _, a, b in rows)
            )
    return tmp_path


def run(files, column: str, **settings) -> benchmark_run.BenchmarkRun:
    labels = {name: str(files / "labels" / f"{name}.csv") for name in ("KVQ", "CGVDS")}
    scores = [str(files / "scores")]
    return benchmark_run.read_run(column, scores, labels, column, **{"draws": 60, **settings})


def test_values_equal_scipy_and_averages_are_weighted_by_videos(files):
    found = run(files, "good")
    by_name = {s.benchmark.name: s for s in found.sets}
    for s in by_name.values():
        expected = stats.spearmanr(s.predicted, s.mos)[0]
        assert s.values["srcc"] == pytest.approx(expected, **TOLERANCES["four_digits"])
        assert s.values["plcc_logistic"] == pytest.approx(
            stats.pearsonr(s.fitted, s.mos)[0], **TOLERANCES["four_digits"]
        )
    (overall,) = found.overall
    mean = 0.6 * by_name["KVQ"].values["srcc"] + 0.4 * by_name["CGVDS"].values["srcc"]
    assert overall.values["srcc"] == pytest.approx(mean)
    assert (overall.group, overall.sets) == ("ood", (5, 2))
    assert "rmse" not in overall.values  # the sets' units differ


def test_contents_of_a_column_are_resampled_and_those_of_names_are_a_question(files):
    before = {s.benchmark.name: s for s in run(files, "good").sets}
    assert before["KVQ"].contents_rule == "" and before["KVQ"].num_contents == 60
    path = files / "labels" / "KVQ.csv"
    lines = path.read_text().splitlines()
    told = [f"{line},scene {k % 12}" for k, line in enumerate(lines[1:])]
    path.write_text("\n".join([lines[0] + ",content", *told]))
    found = run(files, "good")
    after = {s.benchmark.name: s for s in found.sets}["KVQ"]
    assert (after.num_contents, after.contents_rule) == (12, "a column of the labels")
    by_hand = [stats.spearmanr(after.predicted[k::12], after.mos[k::12])[0] for k in range(12)]
    assert after.srcc_within == pytest.approx(np.mean(by_hand))
    assert after.values == before["KVQ"].values
    assert (after.draws["srcc"] != before["KVQ"].draws["srcc"]).any()
    (overall,) = found.overall
    assert overall.macro["srcc"] == pytest.approx(np.mean([s.values["srcc"] for s in found.sets]))
    (row,) = [r for r in benchmark_run.compare(found, found, draws=20) if r.name == "KVQ"]
    assert (row.videos, row.contents) == (60, 12)
    path.write_text("\n".join([lines[0] + ",content", *told[:-1], lines[-1] + ","]))
    with pytest.raises(LabelsError, match="not told"):
        run(files, "good")


def test_a_sets_draws_do_not_depend_on_the_other_sets(files):
    both = {s.benchmark.name: s for s in run(files, "good").sets}
    (files / "scores" / "KVQ.csv").unlink()
    (alone,) = run(files, "good").sets
    np.testing.assert_array_equal(alone.draws["srcc"], both["CGVDS"].draws["srcc"])


def test_videos_without_a_score_are_counted_and_left_out(files):
    path = files / "scores" / "KVQ.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 2)[0] + ",,1"
    path.write_text("\n".join(lines[:-2]))
    s = run(files, "good").sets[1]
    assert (s.benchmark.name, s.num_scored, len(s.videos)) == ("KVQ", 57, 60)
    assert np.isnan(s.predicted[[0, 58, 59]]).all()


def test_difference_on_common_videos(files):
    good, bad = run(files, "good"), run(files, "bad")
    rows = {r.name: r for r in benchmark_run.compare(good, bad, draws=100)}
    assert set(rows) == {"KVQ", "CGVDS", "overall, out of domain"}
    for row in rows.values():
        d = row.differences["srcc"]
        assert 0 < d.low < d.value < d.high and d.p < 0.05
    assert rows["KVQ"].williams[0] > 2 and rows["KVQ"].williams[1] < 0.05
    assert rows["KVQ"].corrected["srcc"] >= rows["KVQ"].differences["srcc"].p
    assert rows["overall, out of domain"].videos == 100
    same = benchmark_run.compare(good, good, draws=20)
    assert all(r.differences["plcc"].value == 0 and r.differences["plcc"].p == 1 for r in same)


def test_page_json_and_rows(files):
    arguments = ["benchmark", "--labels", str(files / "labels"), "--draws", "20"]
    arguments += ["--predictions", str(files / "scores"), "--column", "good", "--name", "<good>"]
    arguments += ["--against", str(files / "scores"), "--against_column", "bad"]
    assert main.main([*arguments, "--out", str(files / "out")]) == 0
    page = (files / "out/benchmark.html").read_text()
    assert "&lt;good&gt; minus the other model" in page and "<good>" not in page
    assert page.count("data:image/svg+xml") == 8  # scatter and residuals, two sets, two models
    assert "http-equiv" in page and 'src="http' not in page
    facts = json.loads((files / "out/benchmark.json").read_text())
    low, high = facts["runs"][0]["sets"]["KVQ"]["metrics"]["srcc"]["interval"]
    assert low < facts["runs"][0]["sets"]["KVQ"]["metrics"]["srcc"]["value"] < high
    assert facts["differences"]["KVQ"]["srcc"]["p_holm"] <= 1
    with open(files / "out/benchmark_videos.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 200
    row = rows[0]
    residual = float(row["mos"]) - float(row["fitted"])
    assert float(row["residual"]) == pytest.approx(residual)


@pytest.mark.parametrize(
    ("column", "complaint"), [("", "good"), ("best", "columns"), ("good+best", "columns")]
)
def test_unclear_columns_are_refused(files, column, complaint):
    with pytest.raises(BenchmarkError, match=complaint):
        run(files, column)


def test_scores_of_other_videos_are_refused(files):
    (files / "scores" / "KVQ.csv").write_text("path,good\nelsewhere.mp4,1\n")
    with pytest.raises(BenchmarkError, match=r"elsewhere\.mp4"):
        run(files, "good")


def test_one_file_for_all_sets(files):
    lines = [(files / "scores" / f"{n}.csv").read_text().splitlines() for n in ("KVQ", "CGVDS")]
    whole = files / "all.csv"
    whole.write_text("\n".join([*lines[0], *(x.replace("/0", "/c0") for x in lines[1][1:])]))
    labels = files / "labels" / "CGVDS.csv"
    labels.write_text(labels.read_text().replace("\n0", "\nc0"))
    paths = {name: str(files / "labels" / f"{name}.csv") for name in ("KVQ", "CGVDS")}
    found = benchmark_run.read_run("all", [str(whole)], paths, "good", draws=0)
    assert [s.num_scored for s in found.sets] == [40, 60]


def test_the_score_commands_own_table_is_read(files):
    facts = "arbitrary scale,0a1b2c,higher is better"
    lines = ["path,score,std,q,q_std,extrapolated,scale,model,direction,error"]
    for k in range(40):
        score = "" if k == 7 else 50 + k
        error = "no frame [decode]" if k == 7 else ""
        scale, model, direction = facts.split(",")
        lines.append(f"/v/{k:04}.mp4,{score},1,0.1,0.2,False,{scale},{model},{direction},{error}")
    table = files / "scored.csv"
    table.write_text("\n".join(lines))
    labels = {"CGVDS": str(files / "labels/CGVDS.csv")}
    (found,) = benchmark_run.read_run("student", [str(table)], labels, draws=0).sets
    assert (found.num_scored, len(found.videos)) == (39, 40)
    assert np.isnan(found.predicted[7]) and found.predicted[8] == 58
