"""The report on synthetic run folders: numbers, order, escaping, missing stages, one file."""

import base64
import csv
import html.parser
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import report
from vqa_jax.corpus import shards, store
from vqa_jax.jobs import files
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import data, parts, plots

EVIL = '<script>alert("x")</script> & ünï.mp4'
SIMULATORS = ("gaussian_blur", "h264", "jitter")


def _write_csv(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _video_id(source, simulator, level):
    return f"{source}-0-{simulator}-{level}"


def _video(source, simulator, level, rng):
    y, x = np.mgrid[:80, :80]
    waves = np.stack([np.sin(x / (5 + 3 * c) + source) * np.cos(y / 9) for c in range(3)], -1)
    tiles = np.stack([127 + 90 * np.roll(waves, 11 * t, axis=1) for t in range(6)])
    tiles += rng.normal(0, 4, tiles.shape)
    if level:
        tiles = np.stack([cv2.GaussianBlur(t, (0, 0), level) for t in tiles])
    return {
        "video_id": _video_id(source, simulator, level),
        "source_id": str(source),
        "path": EVIL if source == 0 else f"scene {source}.mp4",
        "segment": 0,
        "start_frame": 0,
        "num_frames": 30,
        "fps": 30.0,
        "width": 320,
        "height": 240,
        "simulator": simulator,
        "level": level,
        "effective": True,
        "parameter": "{}",
        "preprocess": Preprocess().to_json(),
        "frames": tiles.clip(0, 255).astype(np.uint8),
    }


def _corpus(run, rng):
    root = str(run / "corpus")
    os.makedirs(root)
    shard = os.path.join(root, "work-0")
    shards.write_shard(
        shard,
        "vqa_videos",
        (_video(k, s, n, rng) for k in range(2) for s in SIMULATORS for n in range(4)),
    )
    shards.publish(root, "vqa_videos", "vqa_videos", {"heldout": [shard]})
    manifest = {
        "seed": 1234,
        "settings": {"preprocess": {"tile_size": 80}, "simulators": list(SIMULATORS)},
        "counts": {"inputs": 66, "sources": 64, "quarantined": 2, "videos": 4321},
    }
    files.write_json(os.path.join(root, "manifest.json"), manifest)
    _write_csv(
        os.path.join(root, "quarantine.csv"),
        [
            {"path": EVIL, "stage": "probe", "reason": "no video stream"},
            {"path": "cut.mp4", "stage": "decode", "reason": "truncated at frame 12"},
        ],
    )
    for k, counts in ((1, (900, 600, 100, 600, 900)), (2, (150, 90, 30, 90, 150))):
        labels = dict(zip(LEVELS, counts, strict=True))
        pairs = {"identity": {"pairs": "abc"}, "counts": {"train": sum(counts)}, "labels": labels}
        files.write_json(os.path.join(root, f"pairs_{k}.json"), pairs)
    facts = {"iteration": 2, "misordered": 77, "misordered_by_simulator": {"h264": 41}}
    files.write_json(os.path.join(root, "relabel_2.json"), facts)


def _pair_rows(accuracy, rng):
    rows = []
    for simulator in SIMULATORS:
        for first in range(4):
            for second in range(4):
                if first == second:
                    continue
                gap = min(2, abs(first - second))
                label = LEVELS[2 + gap] if second < first else LEVELS[2 - gap]
                wrong = rng.random() > accuracy
                sure = 0.5 + 0.45 * rng.random()
                preference = sure if (second < first) != wrong else 1 - sure
                ids = [_video_id(0, simulator, first), _video_id(0, simulator, second)]
                rows.append(
                    {
                        "pair_id": f"{'|'.join(ids)}|simulator:{simulator}",
                        "first_id": ids[0],
                        "second_id": ids[1],
                        "simulator": simulator,
                        "first_level": first,
                        "second_level": second,
                        "label": label,
                        "predicted": LEVELS[int(preference * 4.99)],
                        "preference": preference,
                        "correct": int(not wrong),
                    }
                )
    return rows


def _iteration(run, number, accuracy, srcc, rng, steps=120):
    folder = run / f"iteration_{number}"
    evaluation = folder / "evaluation"
    evaluation.mkdir(parents=True)
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as f:
        for step in range(20, steps, 20):
            values = {"loss": 4 / number / (1 + step / 40), "ce": 2.0, "level_acc": step / steps}
            row = {f"train/{k}": v + 0.02 * rng.random() for k, v in values.items()}
            f.write(json.dumps({"step": step, **row, "perf/pairs_per_sec": 31.0}) + "\n")
    groups, scores = {}, []
    for index, simulator in enumerate(SIMULATORS):
        mine = accuracy - 0.05 * (index - 1)
        cells = {f"{a}-{b}": (a, b) for a in range(4) for b in range(a + 1, 4)}
        groups[simulator] = {
            "accuracy": mine,
            "pairs": 120 + index,
            "srcc": srcc + 0.02 * (index - 1),
            "by_distance": {str(d): {"accuracy": mine, "pairs": 40} for d in (1, 2, 3)},
            "by_levels": {k: {"accuracy": mine - 0.2, "pairs": 9} for k in cells},
        }
        for source in range(5):
            for level in range(4):
                if level == 0 and index:
                    continue  # the source is scored once and belongs to all simulators
                name = simulator if level else "source"
                score = 70 - number * 6 * level + rng.normal(0, 4)
                ids = {"video_id": _video_id(source, name, level), "source_id": source}
                values = {"simulator": name, "level": level, "score": score, "q": 0.1, "std": 0.4}
                scores.append({**ids, "segment": 0, **values})
    confusion = (np.eye(5) * 60 + rng.integers(0, 25, (5, 5))).astype(int)
    confusion[2] = 0
    summary = {
        "student": f"f1ngerprint{number}",
        "num_pairs": 363,
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.031, accuracy + 0.03],
        "by_simulator": groups,
        "srcc": srcc,
        "confusion": confusion.tolist(),
        "self_contradiction": 0.1234 / number,
    }
    files.write_json(str(evaluation / "evaluation.json"), summary)
    _write_csv(str(evaluation / "pairs.csv"), _pair_rows(accuracy, rng))
    _write_csv(str(evaluation / "scores.csv"), scores)


def make_run(run):
    """A run of two iterations, all stages done."""
    rng = np.random.default_rng(3)
    _corpus(run, rng)
    _iteration(run, 1, 0.6543, -0.412, rng)
    _iteration(run, 2, 0.7123, -0.587, rng)
    scores = [{"path": EVIL, "score": 55.21, "std": 2.5, "error": ""}]
    _write_csv(str(run / "scores.csv"), scores)


class _Page(html.parser.HTMLParser):
    """Checks nesting; collects tags, attributes and text."""

    _VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.urls, self.open, self.words = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, value):
        if self.open[-1:] != ["style"]:
            self.words.append(value)

    @property
    def text(self):
        return "".join(self.words)


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
    parsed = _Page(page)
    assert path == str(run / "report.html") and os.path.getsize(path) < 5e6
    assert parsed.open == []
    assert "script" not in parsed.tags and "link" not in parsed.tags
    assert {u.split(",")[0].split("#")[0] for u in parsed.urls} == {
        "",  # links inside the page
        "data:image/svg+xml;base64",
        "data:image/jpeg;base64",
    }
    assert "@import" not in page and "url(" not in page
    assert not [n for n in os.listdir(run) if n.endswith(".tmp")]


def test_numbers_before_and_after_appear(full):
    words = _Page(full[2]).text
    for shown in ("65.4%", "71.2%", "+5.8", "−0.412", "−0.587", "−0.175", "12.3%", "6.2%", "−6.2"):
        assert shown in words, shown
    for fact in ("4,321", "1234", "f1ngerprint2", "misordered_by_simulator.h264", "41", "55.21"):
        assert fact in words, fact
    assert "the 95% intervals overlap" in words  # 65.4 + 3.0 reaches 71.2 - 3.1


def test_separate_intervals_are_called_so(tmp_path):
    rng = np.random.default_rng(0)
    _iteration(tmp_path, 1, 0.6, -0.3, rng)
    _iteration(tmp_path, 2, 0.8, -0.6, rng)
    with open(report.build_report(str(tmp_path)), encoding="utf-8") as f:
        assert "the 95% intervals do not overlap" in _Page(f.read()).text


def test_file_names_are_escaped(full):
    page = full[2]
    assert "<script" not in page
    # The quarantine, the user's scores, and a thumbnail of the source with that name.
    assert page.count(parts.text(EVIL)) >= 3
    assert EVIL in _Page(page).text


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


def test_a_pair_in_both_orders_counts_once_and_a_simulator_has_a_quota():
    def row(first, second, simulator, preference, correct="0"):
        ids = {"pair_id": f"{first}{second}", "first_id": first, "second_id": second}
        return {**ids, "simulator": simulator, "preference": preference, "correct": correct}

    rows = [
        row("a", "b", "blur", "0.6"),
        row("c", "d", "blur", "0.01"),
        row("d", "c", "blur", "0.98"),
        row("e", "f", "blur", "0.9"),
        row("g", "h", "h264", "0.7"),
        row("i", "j", "h264", "1.0", correct="1"),
        row("k", "l", "h264", "nan"),
    ]
    chosen = data.confidently_wrong(rows, count=9, per_simulator=2)
    assert [r["pair_id"] for r in chosen] == ["cd", "ef", "gh"]
    assert chosen == data.confidently_wrong(rows[::-1], count=9, per_simulator=2)
    assert [r["pair_id"] for r in data.confidently_wrong(rows, 1, 9)] == ["cd"]


def test_strip_shows_the_stored_tiles(full):
    run = full[0]
    video_id = _video_id(1, "h264", 0)
    found = data.thumbnails(str(run), [video_id, "unknown"])
    assert list(found) == [video_id] and found[video_id].path == "scene 1.mp4"
    strip = cv2.imdecode(np.frombuffer(found[video_id].jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    frames = store.RecordStore(str(run / "corpus"), "vqa_videos")[video_id]["frames"]
    expected = np.concatenate(frames[[0, 2, 3, 5]], axis=1)
    assert strip.shape == expected.shape
    assert np.abs(strip.astype(float) - expected).mean() < TOLERANCES["jpeg_strip"]["atol"]


def test_severity_curves_share_the_source_among_its_simulators():
    rows = [
        {"source_id": "a", "segment": "0", "simulator": "source", "level": "0", "score": "9"},
        {"source_id": "b", "segment": "0", "simulator": "source", "level": "0", "score": "1"},
        {"source_id": "a", "segment": "0", "simulator": "blur", "level": "2", "score": "4"},
        {"source_id": "a", "segment": "0", "simulator": "blur", "level": "1", "score": "6"},
        {"source_id": "b", "segment": "0", "simulator": "h264", "level": "1", "score": "nan"},
        {"source_id": "b", "segment": "0", "simulator": "h264", "level": "3", "score": "0"},
    ]
    curves = {
        s: {k: v.tolist() for k, v in c.items()} for s, c in data.severity_curves(rows).items()
    }
    assert curves == {"blur": {0: [9], 1: [6], 2: [4]}, "h264": {0: [1], 3: [0]}}


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
        assert said in _Page(f.read()).text
    assert said not in _Page(full[2]).text


def test_empty_run(tmp_path):
    with open(report.build_report(str(tmp_path)), encoding="utf-8") as f:
        page = _Page(f.read())
    assert "No iteration has been evaluated yet" in page.text and "img" not in page.tags
    assert report.summary_table(str(tmp_path)) == "No iteration has been evaluated yet."
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report.build_report(str(tmp_path / "nowhere"))


def test_damaged_files_are_named(tmp_path):
    _iteration(tmp_path, 1, 0.6, -0.3, np.random.default_rng(0))
    (tmp_path / "iteration_1" / "evaluation" / "evaluation.json").write_text('{"accuracy": ')
    with open(tmp_path / "iteration_1" / "metrics.jsonl", "a", encoding="utf-8") as f:
        f.write('{"step": 140, "train/lo')
    with open(report.build_report(str(tmp_path)), encoding="utf-8") as f:
        words = _Page(f.read()).text
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
    _iteration(tmp_path, 1, 0.6, -0.3, np.random.default_rng(0))
    path = str(tmp_path / "iteration_1" / "evaluation" / "evaluation.json")
    summary = files.read_json(path)
    summary["srcc"] = None
    summary["by_simulator"]["h264"]["srcc"] = None
    files.write_json(path, summary)
    rows = {(r.kind, r.name): r for r in data.loop_rows(data.collect(str(tmp_path)))}
    assert ("srcc", "all simulators") not in rows and ("srcc", "h264") not in rows
    assert rows["accuracy", "all simulators"].difference is None
    assert "+" not in report.summary_table(str(tmp_path))


def test_rounded_zero_has_no_sign():
    assert [parts.signed(v, 1) for v in (0.04, -0.04, 0.06, -1)] == ["0.0", "0.0", "+0.1", "−1.0"]


def test_plots_follow_the_dark_setting_and_repeat_exactly():
    series = [plots.Series([0, 1, 2], [3.0, 2.0, 1.0], 1, [0.1, 0.2, 0.3], markers=True)]
    uri = plots.lines(series, "level", whole_x=True)
    assert uri == plots.lines(series, "level", whole_x=True)
    kind, payload = uri.split(",")
    svg = base64.b64decode(payload).decode()
    assert kind == "data:image/svg+xml;base64"
    assert "prefers-color-scheme:dark" in svg and "var(--s1)" in svg and "var(--ink)" in svg
    assert "#a100" not in svg.lower().split("</style>")[1]
