"""The report on synthetic run folders: numbers, order, escaping, missing stages, one file."""

import csv
import os
import shutil

import cv2
import numpy as np
import pytest

from tests.fixtures.page_reader import EVIL, Page, inert
from tests.fixtures.run_folder import make_run, video_id, write_csv, write_iteration
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.corpus import store
from vqa_jax.jobs import files
from vqa_jax.report import run as report
from vqa_jax.report import run_data


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    make_run(run)
    path = report.build_report(str(run))
    with open(path, encoding="utf-8") as f:
        page = f.read()
    return run, path, page


def test_one_self_contained_file(full):
    run, path, page = full
    parsed = inert(page)
    assert path == str(run / "report.html") and os.path.getsize(path) < 5e6
    kinds = {u.split(",")[0] for u in parsed.urls if not u.startswith("#")}
    assert kinds == {"data:image/svg+xml;base64", "data:image/jpeg;base64"}
    assert not [n for n in os.listdir(run) if n.endswith(".tmp")]


def test_numbers_before_and_after_appear(full):
    words = Page(full[2]).text
    for shown in ("65.4%", "71.2%", "+5.8", "−0.412", "−0.587", "−0.175", "12.3%", "6.2%", "−6.2"):
        assert shown in words, shown
    for fact in ("4,321", "1234", "f1ngerprint2", "of h264", "41", "55.21"):
        assert fact in words, fact
    assert "the 95% intervals overlap" in words  # 65.4 + 3.0 reaches 71.2 - 3.1


def test_separate_intervals_are_called_so(tmp_path):
    rng = np.random.default_rng(0)
    write_iteration(tmp_path, 1, 0.6, -0.3, rng)
    write_iteration(tmp_path, 2, 0.8, -0.6, rng)
    with open(report.build_report(str(tmp_path)), encoding="utf-8") as f:
        assert "the 95% intervals do not overlap" in Page(f.read()).text


def test_what_files_say_is_text(full):
    # The quarantine's path and reason, the user's scores, the relabelling, settings, wrong pairs.
    assert inert(full[2]).text.count(EVIL) >= 6


def test_names_of_simulators_labels_and_teachers_are_text(full, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(full[0], run)
    folder = run / "iteration_2" / "evaluation"
    summary = files.read_json(str(folder / "evaluation.json"))
    group = summary["by_simulator"]["h264"]
    summary |= {"student": EVIL, "by_simulator": {EVIL: group, "jitter": group}}
    files.write_json(str(folder / "evaluation.json"), summary)
    with open(folder / "pairs.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    evil = ("simulator", "label", "predicted", "first_level", "second_level", "second_id")
    write_csv(str(folder / "pairs.csv"), [row | dict.fromkeys(evil, EVIL) for row in rows])
    with open(folder / "scores.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    write_csv(str(folder / "scores.csv"), [row | {"simulator": EVIL} for row in rows])
    write_csv(str(run / "scores.csv"), [{EVIL: EVIL, "score": 1}])
    page = report.build_report(str(run))
    with open(page, encoding="utf-8") as f:
        parsed = inert(f.read())
    assert parsed.text.count(EVIL) > 20
    assert f"mean score by severity level, {EVIL}" in parsed.values


def test_wrong_pairs_most_confident_first(full):
    run, _, page = full
    with open(run / "iteration_2" / "evaluation" / "pairs.csv", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["correct"] == "0"]
    best = max(rows, key=lambda r: abs(float(r["preference"]) - 0.5))
    cards = page.split('<div class="pair">')[1:]
    shown = [float(c.split("p = ")[1].split("<")[0]) for c in cards]
    confidence = [abs(p - 0.5) for p in shown]
    assert len(cards) > 2 and confidence == sorted(confidence, reverse=True)
    assert shown[0] == pytest.approx(float(best["preference"]), **TOLERANCES["printed_preference"])
    assert all(c.count("data:image/jpeg") == 2 for c in cards)
    assert f"the second is <b>{best['label']}</b>" in cards[0]
    side = "second" if float(best["preference"]) > 0.5 else "first"
    assert f"prefers the {side}" in cards[0]


def test_strip_shows_the_stored_tiles(full):
    run = full[0]
    key = video_id(1, "h264", 0)
    found = run_data.thumbnails(str(run), [key, "unknown"])
    assert list(found) == [key] and found[key].path == "scene 1.mp4"
    strip = cv2.imdecode(np.frombuffer(found[key].jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    frames = store.RecordStore(str(run / "corpus"), "vqa_videos")[key]["frames"]
    expected = np.concatenate(frames[[0, 2, 3, 5]], axis=1)
    assert strip.shape == expected.shape
    assert np.abs(strip.astype(float) - expected).mean() < TOLERANCES["jpeg_strip"]["atol"]


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        ("corpus/manifest.json", "no corpus/manifest.json"),
        ("corpus/quarantine.csv", "no corpus/quarantine.csv"),
        ("corpus/relabel_2.json", "has not relabelled the pool yet"),
        ("iteration_2/metrics.jsonl", "no training metrics of iteration 2"),
        ("iteration_2/evaluation/evaluation.json", "iteration 2 has not been evaluated"),
        ("iteration_2/evaluation/pairs.csv", "iteration 2 has no list of evaluated pairs"),
        ("corpus/vqa_videos", "its frames are not in the corpus"),
    ],
)
def test_missing_stage_is_said(full, tmp_path, remove, said):
    run = tmp_path / "run"
    shutil.copytree(full[0], run)
    os.rename(run / remove, tmp_path / "gone")
    with open(report.build_report(str(run)), encoding="utf-8") as f:
        assert said in Page(f.read()).text
    assert said not in Page(full[2]).text


def test_empty_run(tmp_path):
    with open(report.build_report(str(tmp_path)), encoding="utf-8") as f:
        page = Page(f.read())
    assert "No iteration has been evaluated yet" in page.text and "img" not in page.tags
    assert report.summary_table(str(tmp_path)) == "No iteration has been evaluated yet."
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report.build_report(str(tmp_path / "nowhere"))


def test_damaged_files_are_named(tmp_path):
    write_iteration(tmp_path, 1, 0.6, -0.3, np.random.default_rng(0))
    (tmp_path / "iteration_1" / "evaluation" / "evaluation.json").write_text('{"accuracy": ')
    with open(tmp_path / "iteration_1" / "metrics.jsonl", "a", encoding="utf-8") as f:
        f.write('{"step": 140, "train/lo')
    with open(report.build_report(str(tmp_path)), encoding="utf-8") as f:
        words = Page(f.read()).text
    assert "iteration_1/evaluation/evaluation.json:" in words and "not valid JSON" in words
    assert "iteration_1/metrics.jsonl: 1 unreadable lines left out" in words


def test_summary_table(full):
    lines = report.summary_table(str(full[0])).splitlines()
    assert lines[0].split() == ["iteration", "1", "iteration", "2", "change"]
    cells = [line.split("  ") for line in lines]
    rows = [[c.strip() for c in line if c.strip()] for line in cells]
    assert ["all simulators", "65.4%", "71.2%", "+5.8"] in rows
    assert ["gaussian_blur", "70.4%", "76.2%", "+5.8"] in rows
    assert ["all simulators", "−0.412", "−0.587", "−0.175"] in rows
    assert len({len(line) for line in lines if line.count("  ") > 2}) == 1  # columns line up


def test_unknown_values_leave_a_dash_and_no_difference(tmp_path):
    write_iteration(tmp_path, 1, 0.6, -0.3, np.random.default_rng(0))
    path = str(tmp_path / "iteration_1" / "evaluation" / "evaluation.json")
    summary = files.read_json(path)
    summary["srcc"] = None
    summary["by_simulator"]["h264"]["srcc"] = None
    files.write_json(path, summary)
    rows = {(r.kind, r.name): r for r in run_data.loop_rows(run_data.collect(str(tmp_path)))}
    assert ("srcc", "all simulators") not in rows and ("srcc", "h264") not in rows
    assert rows["accuracy", "all simulators"].difference is None
    assert "+" not in report.summary_table(str(tmp_path))
