"""The table of the ablation, from rows whose figures are known."""

import csv
import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from pyarrow import parquet

from data_prep import commands
from launch.ablation import __main__ as front
from launch.ablation import opinion, pictures, rows, table
from tests.fixtures import cell_student, tiny_corpus
from tests.fixtures.stub_student import StubEngine
from tests.test_imports import ROOT
from vqa_jax.cli import main
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs.files import read_json
from vqa_jax.jobs.tables import write_tables
from vqa_jax.settings import SettingsError

KINDS = ("camera", "flawed", "unsplash")


def _people(rng, noise, count=60, name="folds"):
    """Scores that follow people's with some noise."""
    mos = np.linspace(10, 90, count)
    scores = mos + noise * rng.normal(size=count)
    return [
        (name, KINDS[k % 2], str(k), float(s), float(m))
        for k, (s, m) in enumerate(zip(scores, mos, strict=True))
    ]


def _order(share, simulators=("resize", "h265"), contents=40):
    return [
        ("order", simulator, str(k), float(round(10 * share)), 10.0)
        for simulator in simulators
        for k in range(contents)
    ]


def test_means_spreads_and_signs_are_those_of_the_rows(tmp_path):
    folder = str(tmp_path / "rows")
    for seed in range(2):
        for row, noise, share in (("I", 60, 0.5), ("II", 5, 0.9), ("III", 5, 0.9)):
            rng = np.random.default_rng([seed, 5])  # II and III err alike
            lines = _people(rng, noise) + _order(share)
            rows.write(os.path.join(folder, f"{row}.{seed}.{KINDS[seed]}.csv"), lines)
    told = table.write(folder, str(tmp_path))
    with open(tmp_path / "ablation.csv", encoding="utf-8", newline="") as text:
        found = {(r["row"], r["seed"], r["figure"]): r for r in csv.DictReader(text)}
    assert float(found["II", "0", "seen"]["value"]) == pytest.approx(0.9)
    assert float(found["I", "1", "unseen"]["value"]) == pytest.approx(0.5)
    people = found["II", "0", "folds"]
    assert 0.9 < float(people["low"]) < float(people["value"]) < float(people["high"]) < 1
    assert ("I", "0", "clips") not in found  # nobody was asked
    lines = told.splitlines()
    (first,) = (line for line in lines if line.startswith("| I |"))
    assert "| 2 |" in first and "0.500 [0.500, 0.500] ± 0.000" in first
    led = [line for line in lines if " - " in line]
    steps = {tuple(line.split(" | ")[k].strip("| ") for k in (0, 2)): line for line in led}
    lead = steps["II - I", "SRCC, held-out folds"]
    assert "paper" in lead and "up in 2 of 2" in lead and lead.endswith("| yes |")
    assert steps["III - II", "SRCC, held-out folds"].endswith("| not told apart |")


def test_a_left_out_kind_of_simulators_is_asked_about_alone(tmp_path):
    folder = str(tmp_path / "rows")
    simulators = ("defocus", "motion_blur", "jpeg")
    for row, share in (("III", 1.0), ("without_optics", 0.6)):
        lines = _order(share, simulators[:2]) + _order(1.0, simulators[2:])
        rows.write(os.path.join(folder, f"{row}.0.camera.csv"), lines)
    (step,) = (x for x in table.write(folder, str(tmp_path)).splitlines() if "- without_o" in x)
    assert "+0.400 [+0.400, +0.400]" in step and step.endswith("| yes |")
    assert table.FIGURES["family"] in step


def test_intervals_are_over_contents_and_not_over_pictures():
    """Twenty versions of each of six contents, which err together: wide."""
    rng = np.random.default_rng(0)
    errors = rng.normal(size=6).repeat(20)
    mos = np.tile(np.linspace(-1, 1, 20), 6)
    lines = [
        ("kind", "a", str(k // 20), float(m + e), float(m))
        for k, (m, e) in enumerate(zip(mos, errors, strict=True))
    ]
    alone = [(*line[:2], str(k), *line[3:]) for k, line in enumerate(lines)]
    together, apart = (table.Run("I", 0, "a", x).figure("kind") for x in (lines, alone))
    assert together.value == apart.value and together.contents == 6
    assert np.ptp(together.interval) > 1.5 * np.ptp(apart.interval)


def test_a_world_leaves_a_kind_and_near_copies_out(tmp_path):
    rng = np.random.default_rng(1)
    names = [f"{kind}/p{number}_{k}.png" for number, kind in enumerate(KINDS) for k in range(12)]
    for name in names:
        os.makedirs(tmp_path / os.path.dirname(name), exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        picture.resize((48, 40), Image.Resampling.BICUBIC).save(tmp_path / name)
    Image.open(tmp_path / names[0]).save(tmp_path / names[12])  # of another kind, the same scene
    scores = tmp_path / "scores.csv"
    scores.write_text("path,mos\n" + "".join(f"{n},{k}\n" for k, n in enumerate(names)))
    out = str(tmp_path / "world")
    counts = pictures.write_world(str(scores), str(tmp_path), "camera", out)
    asked = rows.asked(out)
    told = {name: picture.fold for name, picture in asked.items()}
    assert {n for n, f in told.items() if f == pictures.KIND} == set(names[:12])
    assert counts["left out"] == 1 and names[12] not in told
    assert counts["known"] + counts["asked"] == 35 and 1 < counts["asked"] - 12 < 10
    with open(os.path.join(out, "rated.csv"), encoding="utf-8") as text:
        known = [line.split(",")[0] for line in text][1:]
    assert set(known).isdisjoint(told) and names[12] not in known
    votes = tmp_path / "votes.csv"
    lines = [f"{tmp_path}/{name},{k},{-k}" for k, name in enumerate(told)]
    votes.write_text("\n".join(["video,one,two", *lines]) + "\n")
    found = rows.of_scores(out, str(votes))
    assert [line[3] for line in found["two"]] == [-line[3] for line in found["one"]]
    assert {line[0] for line in found["one"]} == {"folds", "kind"}
    assert pictures.write_heights(str(tmp_path), names[:2], f"{out}/heights") == 2
    with Image.open(f"{out}/heights/240/{names[0]}") as picture:
        assert picture.size == (288, 240)
    with pytest.raises(SettingsError, match="0 of 36"):
        pictures.write_world(str(scores), str(tmp_path), "night", out)


def test_a_runs_lines_tell_people_by_picture_and_order_by_content(tmp_path):
    world, data = tmp_path / "world", str(tmp_path / "corpus")
    cell_student.write_corpus(data, num_train=1, num_heldout=2)
    ids = {row["video_id"]: row for row in read_video_table(data)}
    held = sorted(key for key, row in ids.items() if row["split"] == "heldout")
    world.mkdir()
    told = ["path,fold,kind,group,mos"]
    told += [f"{ids[key]['path']},1,day,{7 + k},{50 + k}" for k, key in enumerate(held[::4])]
    (world / "folds.csv").write_text("\n".join(told) + "\n")
    scores = [
        {"video_id": key, "level": ids[key]["level"], "score": 1.5, "error": None} for key in held
    ]
    first = next(key for key in held if key.startswith("s01") and ids[key]["level"] == 1)
    pairs = [{"first_id": first, "simulator": "darken", "correct": right} for right in (1, 0, 1)]
    for name, found in (("scores", scores), ("pairs", pairs)):
        write_tables(str(tmp_path / name), found)
    lines = [*rows.of_run(str(world), data, str(tmp_path))]
    assert lines[:2] == [("folds", "day", "7", 1.5, 50.0), ("folds", "day", "8", 1.5, 51.0)]
    assert lines[2:] == [("order", "darken", "7", 2, 3)]
    path = str(tmp_path / "row.csv")
    rows.write(path, lines)
    assert rows.read(path) == [(*a, float(b), float(c)) for *a, b, c in lines]


def test_one_teachers_votes_are_those_of_the_table(tmp_path):
    (tmp_path / "votes.csv").write_text("video,good,bad\na,1.5,0\nb,,3\n")
    target = str(tmp_path / "one.csv")
    options = front.argparse.Namespace(
        scores=str(tmp_path / "votes.csv"), teacher="good", out=target
    )
    front._COMMANDS["one"][0](options)
    assert (tmp_path / "one.csv").read_text().split() == ["video,good", "a,1.5"]


def test_a_student_that_cannot_order_its_anchors_is_asked_all_the_same(tmp_path, monkeypatch):
    """Of one that has two levels the wrong way round: ranks, by people's photographs."""
    data = tiny_corpus.write_corpus(str(tmp_path / "corpus"), 6, 2)
    rated = ["path,mos,content", *(f"videos/clip {k}.mp4,{10 * k},{k}" for k in range(6))]
    (tmp_path / "rated.csv").write_text("\n".join(rated) + "\n")
    student = SimpleNamespace(engine=StubEngine(), fingerprint="a student")
    monkeypatch.setattr(opinion.loading, "load", lambda folder: student)
    out = str(tmp_path / "out")
    opinion.ask("a folder", str(tmp_path), data, data, out)
    found = parquet.read_table(os.path.join(out, "scores.parquet")).to_pylist()
    assert len(found) == 8
    by_level = {row["level"]: row["score"] for row in found}
    # All photographs are undistorted: a version's score is how it stands to them.
    assert by_level[0] == pytest.approx(50, abs=1)
    assert by_level[3] < by_level[1] < by_level[2] < by_level[0]
    told = read_json(os.path.join(out, "evaluation.json"))
    assert told["accuracy"] == pytest.approx(5 / 6)


def _pictures(folder):
    """Pictures of three kinds, the better the sharper; their table of scores."""
    rng, told = np.random.default_rng(4), ["path,mos"]
    for kind in KINDS:
        os.makedirs(folder / kind)
        for k in range(34):
            blocks = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            blur = int(rng.integers(0, 30))
            picture = blocks.resize((96, 96), Image.Resampling.NEAREST)
            picture = picture.filter(ImageFilter.GaussianBlur(blur / 10))
            name = f"{kind}/{kind}{k}.png"
            picture.save(folder / name)
            told.append(f"{name},{90 - 2 * blur}")
    (folder / "scores.csv").write_text("\n".join(told) + "\n")


@pytest.mark.slow
def test_the_whole_table_from_made_pictures_and_what_is_finished_is_kept(tmp_path):
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("launch/ablation.sh uses .venv, and these tests run elsewhere")
    photographs, data, out = (tmp_path / name for name in ("photographs", "corpus", "out"))
    _pictures(photographs)
    simulators = "--config.prep.simulators=('gaussian_blur','gaussian_noise','jpeg','h265')"
    build = ["build", "--config", "small", "--videos", str(photographs), "--data", str(data)]
    assert commands.main([*build, simulators, "--", "--runner=FnApiRunner"]) == 0
    assert main.main(["motion", "--data", str(data)]) == 0
    assert main.main(["tokens", "--config", "small", "--data", str(data)]) == 0
    options = {"photographs": photographs, "scores": photographs / "scores.csv", "data": data}
    words = [f"--{name} {path}" for name, path in {**options, "out": out}.items()]
    words += ["--seeds 1", "--rows 'I permuted V'"]
    words += [f"--config.train.optim.{name}" for name in ("total_steps=2", "warmup_steps=1")]
    command = " ".join(["bash", str(ROOT / "launch" / "ablation.sh"), *words])
    made = []
    for _ in range(2):
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        paths = [path for path in (out / "rows").iterdir() if not path.name.startswith("light")]
        made.append({path.name: path.stat().st_ino for path in paths})
    told = (out / "ablation.md").read_text()
    assert {name.split(".")[0] for name in made[0]} == {"I", "permuted", "teachers_mean"}
    for name in ("I.0.camera.csv", "permuted.0.camera.csv"):
        assert made[0][name] == made[1][name]
    # Two steps teach nothing: such a student finds no hard pairs, but as a row it is asked.
    assert "row V, seed 0, is left out" in done.stdout
    assert "row I, seed" not in done.stdout  # the second time
    assert "| I | 1 |" in told and "light_lite0_all" in told and table.FIGURES["unseen"] in told
