"""The cost measurements: every step is found in the profile, and the figures fit each other."""

import json

import numpy as np
import pytest
from scipy import stats

from launch.bench import __main__, published
from tests.fixtures import broken_files
from vqa_jax.devices.topology import CHIPS, Topology
from vqa_jax.models import flops
from vqa_jax.planning import shapes

_WITH_TEACHERS = """
from configs import quickstart

def get_config():
    config = quickstart.get_config()
    config.prep.teachers = ("sharpness", "noise")
    return config
"""


@pytest.mark.slow
def test_prep_reports_every_step_and_the_ratio_of_reading(tmp_path, capsys):
    out, config = tmp_path / "cost.json", tmp_path / "config.py"
    config.write_text(_WITH_TEACHERS)
    asked = ["prep", "--num", "1", "--height", "96", "--seconds", "1.2", "--config", str(config)]
    asked += ["--simulators", "gaussian_blur", "h265", "--preset", "ultrafast"]
    __main__.main([*asked, "--out", str(out)])
    found = json.loads(out.read_text())
    # A step whose function was renamed would be missed, and its time be called "other".
    assert all(share > 0 for share in found["shares"].values())
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["shares"]["other"] < 0.2
    assert found["clips_per_core_second"] == pytest.approx(found["clips"] / found["cpu_seconds"])
    # Two segments, each with five levels of blur and four of H.265: together all that was spent.
    each = found["by_simulator"]
    assert each.keys() == {"source", "gaussian_blur", "h265"} and min(each.values()) > 0
    together = 2 * (each["source"] + 5 * each["gaussian_blur"] + 4 * each["h265"])
    assert found["clips"] == 20 and together == pytest.approx(found["cpu_seconds"], rel=0.1)
    frames = found["megapixels"] / (128 * 96 / 1e6)  # of both, at least a motion clip each
    assert frames >= 2 * 32 and frames == pytest.approx(round(frames))
    reading = found["reading"]
    assert reading["ratio"] == pytest.approx(reading["ours"] / reading["bare"])
    text = capsys.readouterr().out
    assert all(f"| {step} |" in text for step in found["shares"])


@pytest.mark.slow
def test_memory_is_sampled_of_worker_and_child_and_of_encoders_alone(tmp_path):
    out, video = tmp_path / "memory.json", tmp_path / "a.mp4"
    broken_files.encode(video, broken_files.moving_frames(40, 96, 128))
    asked = ["memory", "--video", str(video), "--seconds", "1", "--out", str(out)]
    __main__.main([*asked, "--simulators", "gaussian_blur", "h264"])
    found = json.loads(out.read_text())
    assert found["versions"] == 3 and found["encoders_mb"].keys() == {"h264"}  # one level each
    assert found["worker_mb"]["rss"] > found["child_mb"] > 0
    assert found["worker_mb"]["rss"] >= found["worker_mb"]["at_start"]
    assert found["cpu_seconds"] > 0


def test_no_videos_is_one_plain_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no video"):
        __main__.main(["prep", "--videos", str(tmp_path)])


def test_map_measures_the_real_solver(capsys):
    __main__.main(["map", "--num", "1500"])
    text = capsys.readouterr().out
    assert "1500 problems" in text and "finite: 100.00%" in text


def test_gmad_finds_the_quota_in_a_pool(tmp_path, capsys):
    out = tmp_path / "gmad.json"
    __main__.main(
        ["gmad", "--videos", "2000", "--models", "3", "--quota", "300", "--out", str(out)]
    )
    found = json.loads(out.read_text())
    assert found["pairs"] == 300 and found["seconds"] > 0 and found["peak_gb"] > 0
    assert "300 gMAD pairs from 2,000 videos x 3 models" in capsys.readouterr().out
    with pytest.raises(ValueError, match="at least one weak model"):
        __main__.main(["gmad", "--models", "1"])


@pytest.mark.slow
def test_scoring_by_the_engine_gives_the_full_passes_logits(tmp_path, capsys):
    out = tmp_path / "scoring.json"
    __main__.main(["scoring", "--repeats", "1", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["logits_error"] < 1e-4 and found["flops_ratio_7b"] <= 0.44
    assert "operations" in capsys.readouterr().out


def test_adaptive_reports_every_number_of_anchors(known, corpus, tmp_path, capsys):
    out = tmp_path / "adaptive.json"
    arguments = ["adaptive", "--student", known, "--data", corpus, "--epsilon", "0.1"]
    __main__.main([*arguments, "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["videos"] == 8 and found["sources"] == 2
    assert [row["comparisons"] for row in found["rows"][:5]] == [1, 2, 3, 4, 5]
    assert found["rows"][4]["srcc_full"] == pytest.approx(1)
    # A student that knows the corpus orders the levels, though not the two sources alike.
    ordered = stats.spearmanr(np.repeat(range(4), 2), range(8)).statistic
    assert found["rows"][4]["srcc"] > ordered - 1e-9
    assert found["rows"][5]["flops_7b"] <= found["rows"][4]["flops_7b"]
    assert "SRCC with all anchors" in capsys.readouterr().out


@pytest.mark.slow
def test_precisions_stand_beside_float32(known, corpus, tmp_path, capsys):
    out = tmp_path / "precision.json"
    __main__.main(["precision", "--student", known, "--data", corpus, "--out", str(out)])
    found = json.loads(out.read_text())
    whole, half, int8, kept = found["rows"]
    assert found["videos"] == 8 and whole["logits"] == [0, 0] and whole["srcc"] == 1
    assert 0 < half["logits"][1] <= half["logits"][0] and kept["logits"][0] > 0
    weights = [row["published"]["bytes"][0] for row in (whole, half, int8)]
    assert weights[1] == pytest.approx(weights[0] / 2, rel=0.01) and weights[2] < 0.6 * weights[1]
    assert int8["published"]["int8"] > 0.7 * int8["published"]["flops"]
    assert half["published"]["int8"] == 0 and kept["bytes"][1] < whole["bytes"][1]
    assert "as computed" in capsys.readouterr().out


@pytest.mark.slow
def test_many_files_are_scored_and_watched(tmp_path, capsys):
    out = tmp_path / "many.json"
    __main__.main(["many", "--student", "tiny", "--num", "40", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["files"] == 40 and 30 <= found["scored"] < 40  # one is cut before its index
    assert len(found["parent_mb"]) == len(found["children_mb"]) == 4
    assert found["most_mb"] >= max(found["parent_mb"]) > 0 and found["cpu_seconds"] > 0
    assert "a quarter of the time each" in capsys.readouterr().out


@pytest.mark.slow
def test_ladders_and_copies_of_clips_are_summed(tmp_path, capsys):
    clips, work, out = tmp_path / "clips", tmp_path / "work", tmp_path / "versions.json"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4"):
        broken_files.encode(clips / name, broken_files.moving_frames(24, 96, 128))
    asked = ["versions", "--student", "tiny", "--videos", str(clips), "--work", str(work)]
    asked += ["--codec", "x264", "--crf", "20,50", "--length", "0", "--out", str(out)]
    __main__.main(asked)
    first = json.loads(out.read_text())
    assert first["clips"] == 2 and sum(first["steps"]["x264"].values()) == 2
    assert first["bd_rates"]["psnr"]["x264"]["x264"]["mean"] == pytest.approx(0)
    assert first["copies"]["x264"]["clips"] == 2
    made = (work / "a" / "ladder.json").stat().st_mtime_ns
    __main__.main(asked)
    assert json.loads(out.read_text()) == first
    assert (work / "a" / "ladder.json").stat().st_mtime_ns == made  # not made again
    assert "x264: neighbours in order" in capsys.readouterr().out


def test_a_published_utilisation_is_what_our_formula_gives(monkeypatch):
    chips = Topology("v6e-256", (16, 16), tuple(range(256)), CHIPS["v6e"])
    monkeypatch.setattr(published.topology, "open_topology", lambda name: chips)
    wanted, llm = published.planner(), published.LLAMA_3_1_8B
    shape = shapes.pair_shape(wanted.spec, wanted.prompt, wanted.pairs, "sentence", 8192)
    model = flops.training_flops(wanted.student.cfg, shape, lambda _: True).total
    # Theirs counts attention in full: its two products, forward and twice backward, by half more.
    half = 3 * 2 * 2 * 8192**2 / 2 * llm.num_heads * llm.head_dim * llm.num_layers
    peak = 256 * CHIPS["v6e"].peak
    ours = (model + wanted.pairs * half) / published.SECONDS / peak
    assert ours == pytest.approx(published.MFU, rel=0.005)
    seconds = {"arithmetic": 2.0, "step": 2.0, "apart": 3.0}
    estimated = {"seconds": seconds, "gigabytes": 52.0, "mfu": 0.8, "mfu_apart": 0.6}
    said = published.table(
        {"published": {"seconds": 4.5, "mfu": 0.45, "mfu_by_ours": 0.4}, "estimated": estimated}
    )
    assert "halved 0.400" in said and "0.800 if all overlaps, 0.600 if nothing does" in said
