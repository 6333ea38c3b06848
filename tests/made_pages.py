"""One page of every kind, with names in it that would do harm; the run's is `run_folder`'s."""

import dataclasses
import io
import os

import numpy as np
import pyarrow as pa
from page_reader import EVIL
from PIL import Image
from pyarrow import parquet
from scipy import stats
from stub_student import RELABEL, StubEngine, scale_of
from tiny_corpus import write_corpus

from vqa_jax import anchors, benchmark_run, ensemble, relabel, timeline
from vqa_jax.report import anchors as anchors_page
from vqa_jax.report import benchmark as benchmark_page
from vqa_jax.report import relabelling
from vqa_jax.report import teachers as teachers_page
from vqa_jax.report import timeline as timeline_page
from vqa_jax.scoring import VideoInput

EVIL_FILE = EVIL.replace("/", "")  # a file's name holds no slash


def _jpeg(width, height):
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


def timeline_of(folder):
    """A timeline of 40 passages, of which the last could not be read."""
    scored = [
        timeline.Moment(k, k + 2, 50 + 9 * np.sin(k), 2.0, 0.1, 0.2, False) for k in range(39)
    ]
    moments = (*scored, timeline.Moment(39, 41, error=EVIL))
    looks = tuple(
        timeline.Look(m, m.start + 1, _jpeg(640, 360), _jpeg(240, 240))
        for m in sorted(scored, key=lambda m: m.score)[:3]
    )
    found = timeline.Timeline(f"folder/{EVIL_FILE}", moments, looks, f"scale {EVIL}", 12)
    return timeline_page.write(found, str(folder))


def anchors_of(folder):
    """The sensitivity of five anchors, asked about nine videos, by a student that errs a little."""
    qualities = np.array([-1.0, -0.4, 0.1, 0.5, 1.1])
    inputs = tuple(
        VideoInput(np.full((1, 1, 2, 2, 3), 200 * k // 4, np.uint8), np.zeros((1, 4), np.float32))
        for k in range(5)
    )
    names = tuple(f"{k} {EVIL}" for k in range(5))
    found = anchors.AnchorSet(names, inputs, (10.0, 30.0, 50.0, 70.0, 90.0), EVIL, True)
    scale = anchors.Scale(_Ordered(), found)
    noise = np.random.default_rng(0).normal(0, 0.05, (9, 5))
    asked = stats.norm.cdf(np.linspace(-1, 1, 9)[:, None] - qualities) + noise
    anchors_page.examine(scale, np.clip(asked, 0.01, 0.99), str(folder))
    return os.path.join(folder, f"{anchors_page.NAME}.html")


class _Ordered(StubEngine):
    """Sees brightness as quality, and never errs."""

    def encode(self, videos):
        for video in videos:
            yield dataclasses.replace(
                next(super().encode([video])), visual=np.array([video.frames.mean() / 100 - 1])
            )


def benchmark_of(folder):
    """Two models on one set, one of them far better."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 40)
    names = [f"{k:02}.mp4" for k in range(40)]
    labels = os.path.join(folder, "KVQ.csv")
    scores = os.path.join(folder, "scores.csv")
    with open(labels, "w", encoding="utf-8") as f:
        f.write("video,mos\n" + "".join(f"{n},{m}\n" for n, m in zip(names, mos, strict=True)))
    noisy = mos + rng.normal(0, 0.5, 40)
    with open(scores, "w", encoding="utf-8") as f:
        rows = zip(names, noisy, rng.normal(size=40), strict=True)
        f.write("path,good,bad\n" + "".join(f"{n},{a},{b}\n" for n, a, b in rows))
    runs = [
        benchmark_run.read_run(f"{column} {EVIL}", [scores], {"KVQ": labels}, column, draws=20)
        for column in ("good", "bad")
    ]
    return benchmark_page.write(runs, benchmark_run.compare(*runs, draws=20), str(folder))


def teachers_of(folder):
    """Three teachers on 60 videos, one of them odd."""
    rng = np.random.default_rng(0)
    mos = rng.normal(size=60)
    scores = np.stack([mos, mos, -mos], axis=1) + rng.normal(0, 0.3, (60, 3))
    videos, teachers = ([f"{k} {EVIL}" for k in range(n)] for n in (60, 3))
    scored = ensemble.ScoredSet(EVIL, videos, teachers, [True] * 3, scores, mos)
    return teachers_page.write([ensemble.describe(scored)], str(folder))


def relabelled(folder):
    """A relabelled tiny corpus; returns its folder."""
    data = write_corpus(os.path.join(folder, "data"))
    engine = StubEngine()
    relabel.relabel(engine, scale_of(engine), "student 1", data, 2, RELABEL)
    return data


def relabelling_of(folder):
    """The page of a relabelling whose tables say harmful things."""
    data = relabelled(folder)
    for name, columns in (
        ("pairs", ("label", "old_label", "student_label", "weak_model", "attacker")),
        ("videos", ("error",)),
    ):
        path = os.path.join(data, "relabel_2", f"{name}.parquet")
        table = parquet.read_table(path)
        for column in columns:
            place = table.column_names.index(column)
            table = table.set_column(place, column, pa.array([EVIL] * len(table), pa.string()))
        if name == "pairs":
            place = table.column_names.index("label_source")
            values = pa.array([f"simulator:{EVIL}"] * len(table), pa.string())
            table = table.set_column(place, "label_source", values)
        parquet.write_table(table, path)
    return relabelling.write(data, 2)


PAGES = {
    "timeline": timeline_of,
    "anchors": anchors_of,
    "benchmark": benchmark_of,
    "teachers": teachers_of,
    "relabelling": relabelling_of,
}
