"""The registry of teachers and their job: shared, killed, resumed, odd files, missing weights."""

import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import time

import numpy as np
import pytest
from pyarrow import parquet

from vqa_jax.benchmarks.score_tables import read_scores
from vqa_jax.cli import main
from vqa_jax.jobs.files import CorpusError, read_json, write_json
from vqa_jax.media.decode import read_frames
from vqa_jax.media.probe import probe
from vqa_jax.teachers import cards as teacher_registry
from vqa_jax.teachers import job, measures, views

NAMES = ("sharpness", "noise", "temporal_smoothness")


class SeedTeacher:
    """Its score is its seed's: tells what the job hands out. Tells a file of every call."""

    higher_is_better = True

    def __init__(self, log=None, seconds=0.0, name="seed", score=None):
        self.name, self.fingerprint = name, f"{name}-1"
        self._log, self._seconds, self._score = log, seconds, score

    def views(self, info, seed):
        return {"view": views.View(np.zeros(1, int), lambda place, frame: np.array([seed]))}

    def reduce(self, cuts):
        return int(cuts["view"][0, 0])

    def score(self, kept):
        time.sleep(self._seconds)
        if self._log:
            with open(self._log, "a", encoding="ascii") as f:
                f.write(f"{len(kept)}\n")
        return np.array([self._score if self._score is not None else x % 1000 for x in kept])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine small videos in two folders, one of them damaged."""
    from data_prep.simulators.encode import EncodeConfig, encode_rgb

    folder = tmp_path_factory.mktemp("videos")
    (folder / "below").mkdir()
    rng = np.random.default_rng(0)
    for k in range(8):
        frames = rng.integers(0, 256, (1, 12, 10, 3), np.uint8).repeat(12, 0)
        frames = np.roll(frames.repeat(8, 1).repeat(8, 2), k, axis=2)
        name = f"below/{k}.mp4" if k % 2 else f"{k}.mp4"
        (folder / name).write_bytes(encode_rgb(frames, 25.0, EncodeConfig("h264", 24, "fast")))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def _config(**fields):
    return job.JobConfig(**{"unit": 2, "at_once": 2, **fields})


def _bytes(out):
    names = (job.TABLE_CSV, job.TABLE_PARQUET, job.MANIFEST)
    return {name: (pathlib.Path(out) / name).read_bytes() for name in names}


def test_built_in_teachers_go_through_the_job(folder, tmp_path):
    videos = job.list_videos([str(folder)])
    assert [v.key for v in videos][:2] == ["0.mp4", "2.mp4"]
    out = tmp_path / "out"
    built_in = [teacher_registry.built_in(name) for name in NAMES]
    found = job.run(videos, built_in, str(out), _config())
    assert found == job.TeacherOutcome(8, 1, 0)
    assert sorted(os.listdir(out)) == [".lock", "scores.csv", "scores.parquet", "teachers.json"]
    table = read_scores(out / "scores.csv", lower_is_better=("noise",))  # what pairs import
    assert table.teachers == tuple(sorted(NAMES)) and len(table.videos) == 8 + 1
    path = str(folder / "below" / "3.mp4")
    frames = read_frames(path, range(probe(path).num_frames))
    row = list(table.videos).index("below/3.mp4")
    wanted = [measures.get(name).score(frames) for name in table.teachers]
    np.testing.assert_array_equal(table.scores[row], wanted)
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    errors = {row["video"]: row["error"] for row in rows if row["error"]}
    assert list(errors) == ["broken.mp4"] and "not a media file" in errors["broken.mp4"]
    np.testing.assert_array_equal(read_scores(out / "scores.parquet").scores, table.scores)
    assert job.run(videos, built_in, str(out), _config()) == found  # nothing to do
    with pytest.raises(CorpusError, match="other teachers"):
        job.run(videos, built_in[:1], str(out), _config())
    manifest = str(out / job.MANIFEST)
    told = read_json(manifest)
    del told["identity"]["contents"]  # as earlier versions wrote it
    write_json(manifest, told)
    assert job.run(videos, built_in, str(out), _config()) == found


def test_a_replaced_file_is_not_taken_for_the_one_before(folder, tmp_path):
    copied = tmp_path / "videos"
    shutil.copytree(folder, copied)
    videos = job.list_videos([str(copied)])
    job.run(videos, [SeedTeacher()], str(tmp_path / "out"), _config())
    shutil.copyfile(copied / "0.mp4", copied / "2.mp4")
    with pytest.raises(CorpusError, match="scores of other contents"):
        job.run(videos, [SeedTeacher()], str(tmp_path / "out"), _config())


def test_processes_and_group_sizes_change_no_byte(folder, tmp_path):
    videos = job.list_videos([str(folder)])
    one, three = str(tmp_path / "one"), str(tmp_path / "three")
    job.run(videos, [SeedTeacher()], one, _config())
    config = _config(workers=3, at_once=1)
    for process in (2, 0):
        found = job.run(videos, [SeedTeacher()], three, config, process, 3)
        assert found.missing > 0
    assert job.run(videos, [SeedTeacher()], three, config, 1, 3).missing == 0
    assert _bytes(one) == _bytes(three)
    with pytest.raises(CorpusError, match="0 to 1"):
        job.run(videos, [SeedTeacher()], str(tmp_path / "x"), config, 2, 2)


def test_draws_are_averaged_and_seeds_are_the_videos_own(folder, tmp_path):
    videos = job.list_videos([str(folder)])

    def scores(name, videos, **fields):
        out = str(tmp_path / name)
        job.run(videos, [SeedTeacher()], out, _config(**fields))
        table = read_scores(os.path.join(out, "scores.csv"))
        return dict(zip(table.videos, table.scores[:, 0], strict=True))

    whole, part = scores("whole", videos), scores("part", videos[3:5])
    assert len(set(whole.values())) > 5
    assert all(whole[key] == score for key, score in part.items())
    assert scores("seed", videos, seed=1)["0.mp4"] != whole["0.mp4"]
    drawn = scores("draws", videos[:1], draws=3)["0.mp4"]
    seeds = [views.video_seed(0, "0.mp4", k) % 1000 for k in range(3)]
    assert whole["0.mp4"] == seeds[0] and drawn == pytest.approx(np.mean(seeds))


def test_a_score_that_is_no_number_is_an_error_row(folder, tmp_path):
    videos = job.list_videos([str(folder / "0.mp4")])
    odd = SeedTeacher(name="odd", score=float("inf"))
    found = job.run(videos, [SeedTeacher(), odd], str(tmp_path), _config())
    assert found == job.TeacherOutcome(0, 1, 0)
    row = parquet.read_table(tmp_path / "scores.parquet").to_pylist()[0]
    assert row["odd"] is None and row["seed"] is not None and "odd" in row["error"]


def _job(folder, out, log):
    teacher = SeedTeacher(log, 0.15)
    job.run(job.list_videos([folder]), [teacher], out, _config(unit=1, at_once=1))


def test_killed_job_repeats_at_most_one_range(folder, tmp_path):
    log, out = str(tmp_path / "log"), str(tmp_path / "out")
    calls = 0
    for _ in range(3):
        process = multiprocessing.get_context("spawn").Process(
            target=_job, args=(str(folder), out, log)
        )
        process.start()
        while process.is_alive() and (not os.path.exists(log) or _lines(log) <= calls):
            time.sleep(0.02)
        time.sleep(0.05)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        calls = _lines(log)
    _job(str(folder), out, log)
    assert _lines(log) <= 8 + 3
    undisturbed = str(tmp_path / "undisturbed")
    _job(str(folder), undisturbed, None)
    assert _bytes(out) == _bytes(undisturbed)
    assert not [name for name in os.listdir(out) if name.startswith("work")]


def _lines(path):
    with open(path, encoding="ascii") as f:
        return len(f.read().split())


def test_videos_are_listed_from_tables_too(folder, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(f"path,source\n{folder}/0.mp4,a\nmissing.mp4,b\n")
    videos = job.list_videos([str(table)])
    assert [v.key for v in videos] == [f"{folder}/0.mp4", "missing.mp4"]
    found = job.run(videos, [SeedTeacher()], str(tmp_path / "out"), _config())
    assert (found.scored, found.failed) == (1, 1)
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(CorpusError, match="names both"):
        job.list_videos([str(folder), str(tmp_path / "copy")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no video"):
        job.list_videos([str(tmp_path / "empty")])


def test_missing_weights_are_a_message_and_never_scores(folder, tmp_path, capfd):
    out = tmp_path / "out"
    command = ["teachers", "score", "--videos", str(folder), "--out", str(out)]
    weights = ["--weights", str(tmp_path)]
    assert main.main([*command, "--teachers", "sharpness,dover,minimalistic_ix", *weights]) == 1
    said = capfd.readouterr().err
    for part in ("dover.safetensors", "slowfast.safetensors", "DOVER.pth", "Nothing has been"):
        assert part in said
    assert not out.exists()
    for names, message in (("q_align", "import"), ("vmaf", "fast_vqa"), ("noise,noise", "once")):
        assert main.main([*command, "--teachers", names, *weights]) == 1
        assert message in capfd.readouterr().err


def test_commands_list_and_score(folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv(teacher_registry.WEIGHTS_VARIABLE, str(tmp_path))
    (tmp_path / "dover.safetensors").write_bytes(b"")
    assert main.main(["teachers", "list"]) == 0
    said = capfd.readouterr().out
    assert "dover_technical  [neural; weights: found]" in said
    assert "missing: fast_vqa.safetensors" in said and "KoNViD-1k 0.874/0.869" in said
    assert main.main(["teachers", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows["dover"]["ready"] and not rows["fast_vqa"]["ready"] and rows["noise"]["ready"]
    command = ["teachers", "score", "--teachers", "noise,sharpness", "--workers", "2"]
    out = tmp_path / "out"
    assert main.main([*command, "--videos", str(folder), "--out", str(out)]) == 0
    said = capfd.readouterr().out
    assert "8 videos scored, 1 failed" in said and "lower is better: name noise" in said
    assert (out / "scores.csv").is_file()
