"""A made-up run folder of two iterations with all stages done, as the commands leave them."""

import csv
import json
import os

import cv2
import numpy as np
from page_reader import EVIL

from vqa_jax import files, records
from vqa_jax.frames import Preprocess
from vqa_jax.levels import LEVELS

SIMULATORS = ("gaussian_blur", "h264", "jitter")


def write_csv(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def video_id(source, simulator, level):
    return f"{source}-0-{simulator}-{level}"


def _video(source, simulator, level, rng):
    y, x = np.mgrid[:80, :80]
    waves = np.stack([np.sin(x / (5 + 3 * c) + source) * np.cos(y / 9) for c in range(3)], -1)
    tiles = np.stack([127 + 90 * np.roll(waves, 11 * t, axis=1) for t in range(6)])
    tiles += rng.normal(0, 4, tiles.shape)
    if level:
        tiles = np.stack([cv2.GaussianBlur(t, (0, 0), level) for t in tiles])
    return {
        "video_id": video_id(source, simulator, level),
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
    records.write_shard(
        shard,
        "vqa_videos",
        (_video(k, s, n, rng) for k in range(2) for s in SIMULATORS for n in range(4)),
    )
    records.publish(root, "vqa_videos", "vqa_videos", {"heldout": [shard]})
    manifest = {
        "seed": 1234,
        "settings": {"preprocess": {"tile_size": 80}, "simulators": list(SIMULATORS), EVIL: EVIL},
        "counts": {"inputs": 66, "sources": 64, "quarantined": 2, "videos": 4321},
    }
    files.write_json(os.path.join(root, "manifest.json"), manifest)
    write_csv(
        os.path.join(root, "quarantine.csv"),
        [
            {"path": EVIL, "stage": "probe", "reason": f"no video stream: {EVIL}"},
            {"path": "cut.mp4", "stage": "decode", "reason": "truncated at frame 12"},
        ],
    )
    for k, counts in ((1, (900, 600, 100, 600, 900)), (2, (150, 90, 30, 90, 150))):
        labels = dict(zip(LEVELS, counts, strict=True))
        pairs = {"identity": {"pairs": "abc"}, "counts": {"train": sum(counts)}, "labels": labels}
        files.write_json(os.path.join(root, f"pairs_{k}.json"), pairs)
    agreement = {"pairs": 300, "same": 0.61, "direction": None, "matrix": [[3] * 5] * 5}
    facts = {
        "iteration": 2,
        "labels": "student",
        "pool_videos": 4321,
        "failed_videos": 3,
        "simulator_pairs_tested": 600,
        "misordered": 90,
        "misordered_taken": 77,
        "misordered_by_simulator": {"h264": 41, EVIL: 36},
        "gmad": 433,
        "agreement": {"simulators": agreement, "teachers": agreement},
        "entropy": {"simulator_pairs": 0.9, "misordered": None, "gmad": 1.2},
        "hard": {"noise": {k: {"pairs": 200, "wrong": 30} for k in ("high", "low", "middle")}},
    }
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
                ids = [video_id(0, simulator, first), video_id(0, simulator, second)]
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


def write_iteration(run, number, accuracy, srcc, rng, steps=120):
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
                ids = {"video_id": video_id(source, name, level), "source_id": source}
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
    write_csv(str(evaluation / "pairs.csv"), _pair_rows(accuracy, rng))
    write_csv(str(evaluation / "scores.csv"), scores)


def make_run(run):
    """A run of two iterations, all stages done."""
    rng = np.random.default_rng(3)
    _corpus(run, rng)
    write_iteration(run, 1, 0.6543, -0.412, rng)
    write_iteration(run, 2, 0.7123, -0.587, rng)
    scores = [{"path": EVIL, "score": 55.21, "std": 2.5, "error": ""}]
    write_csv(str(run / "scores.csv"), scores)
