"""The motion job: shared among processes and devices, killed, resumed, and clips removed."""

import multiprocessing
import os
import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx
from safetensors.numpy import save_file

from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store as store_lib
from vqa_jax.corpus.video_table import VideoTable
from vqa_jax.jobs import files
from vqa_jax.motion import extractor as motion
from vqa_jax.motion import job as motion_job
from vqa_jax.motion import network
from vqa_jax.motion import weights as slowfast

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPLITS = {"heldout": 1, "train": 4}  # shards
VIDEOS_PER_SHARD = 2
PREPROCESS = {"motion_size": 16, "clip_len": 4, "min_clips": 1, "max_clips": 2}


class MeanExtractor:
    """Instead of a network: the clips' mean colours. Tells a file of every call."""

    def __init__(self, log: str | None = None, seconds: float = 0.0):
        self._log, self._seconds = log, seconds

    motion_dim = 3

    def fingerprint(self, pre) -> str:
        return f"mean-{pre.motion_size}"

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        if self._log:
            with open(self._log, "a", encoding="ascii") as f:
                f.write("call\n")
        time.sleep(self._seconds)
        return clips.mean(axis=(1, 2, 3)).astype(np.float32)


def clips_of(split: str, shard: int, number: int) -> np.ndarray:
    rng = np.random.default_rng([len(split), shard, number])
    return rng.integers(0, 256, (1 + number % 2, 4, 16, 16, 3), np.uint8)


@pytest.fixture
def data(tmp_path) -> str:
    """A corpus folder with clips, and as much of its manifest as the job reads."""
    folder = str(tmp_path / "corpus")
    shards = {}
    os.makedirs(os.path.join(folder, "work"))
    for split, count in SPLITS.items():
        for shard in range(count):
            path = os.path.join(folder, "work", f"{split}-{shard}")
            videos = [
                {"video_id": f"{split}-{shard}-{n}", "clips": clips_of(split, shard, n)}
                for n in range(VIDEOS_PER_SHARD)
            ]
            records.write_shard(path, "vqa_clips", videos)
            shards.setdefault(split, []).append(path)
    entry = records.publish(folder, "vqa_clips", "vqa_clips", shards)
    manifest = {
        "settings": {"preprocess": PREPROCESS},
        "video_table_sha256": "of a table",
        "datasets": {"vqa_clips": entry},
    }
    files.write_json(os.path.join(folder, records.MANIFEST), manifest)
    shutil.rmtree(os.path.join(folder, "work"))
    return folder


def published(data: str) -> dict:
    """The motion manifest, which holds the shards' hashes."""
    return files.read_json(os.path.join(data, motion_job.MANIFEST))


def work_folders(data: str) -> list[str]:
    return [name for name in os.listdir(data) if name.startswith("work")]


def test_features_are_those_of_the_clips_and_costs_are_told(data):
    found = motion_job.run(data, MeanExtractor())
    assert found == motion_job.Outcome(VIDEOS_PER_SHARD * sum(SPLITS.values()), 0)
    store = store_lib.RecordStore(data, "vqa_motion")
    for split, count in SPLITS.items():
        for shard, number in np.ndindex(count, VIDEOS_PER_SHARD):
            record = store[f"{split}-{shard}-{number}"]
            wanted = clips_of(split, shard, number).mean(axis=(1, 2, 3))
            np.testing.assert_allclose(record["features"], wanted, rtol=1e-6)
            assert record["extractor"] == "mean-16"
    assert work_folders(data) == []
    assert published(data)["bytes_per_video"]["clips"] > 0
    cost = files.read_json(os.path.join(data, "motion_cost.json"))
    assert cost["timed"] == found.videos and cost["seconds_per_video"] > 0


@pytest.mark.parametrize("standing", [None, 0.0, 0.2, 1.0])
def test_pictures_get_zeros_unless_they_stand_for_a_second(data, monkeypatch, standing):
    """What a still shows is not motion (method 4); the videos around it keep their features."""
    path = os.path.join(data, records.MANIFEST)
    manifest = files.read_json(path)
    manifest["settings"]["stills"] = True
    if standing is not None:  # corpora made before it lack it
        manifest["settings"]["standing_stills"] = standing
    files.write_json(path, manifest)
    rows = [
        {"video_id": "train-0-0", "path": "a.jpg", "num_frames": 1},
        {"video_id": "train-0-1", "path": "a.mp4", "num_frames": 1},
        {"video_id": "train-1-1", "path": "b.png", "num_frames": 1},
        {"video_id": "train-2-0", "path": "b.png", "num_frames": 9},
    ]
    table = VideoTable(pa.Table.from_pylist(rows))
    monkeypatch.setattr(motion_job.video_table, "read_video_table", lambda *asked: table)
    log = os.path.join(data, "log")
    motion_job.run(data, MeanExtractor(log))
    stills = {"train-0-0", "train-1-1"}
    motionless = {0.2: {"train-0-0"}, 1.0: set()}.get(standing, stills)
    store = store_lib.RecordStore(data, "vqa_motion")
    for split, count in SPLITS.items():
        for shard, number in np.ndindex(count, VIDEOS_PER_SHARD):
            key = f"{split}-{shard}-{number}"
            wanted = clips_of(split, shard, number).mean(axis=(1, 2, 3))
            if key in motionless:
                wanted = np.zeros_like(wanted)
            np.testing.assert_allclose(store[key]["features"], wanted, rtol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_whichever_process_is_last_publishes_what_one_process_would(data, tmp_path, order):
    alone = str(shutil.copytree(data, tmp_path / "alone"))
    motion_job.run(alone, MeanExtractor())
    for place, process in enumerate(order):
        found = motion_job.run(data, MeanExtractor(), process=process, processes=3)
        last = place == 2
        assert (found.missing == 0) == last
        assert os.path.exists(os.path.join(data, motion_job.MANIFEST)) == last
    assert published(data) == published(alone)


def _run(data: str, log: str, seconds: float, process: int, processes: int) -> None:
    extractor = MeanExtractor(log, seconds)
    motion_job.run(data, extractor, process=process, processes=processes)


def _start(*args) -> multiprocessing.process.BaseProcess:
    job = multiprocessing.get_context("spawn").Process(target=_run, args=args)
    job.start()
    return job


def test_two_processes_at_once_and_one_of_them_killed(data, tmp_path, monkeypatch):
    """The shard in hand is repeated, no other."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    alone = str(shutil.copytree(data, tmp_path / "alone"))
    motion_job.run(alone, MeanExtractor())
    log = str(tmp_path / "calls")
    other = _start(data, log, 60.0, 1, 2)
    while not os.path.exists(log):
        assert other.is_alive()
        time.sleep(0.01)
    motion_job.run(data, MeanExtractor(), process=0, processes=2)
    assert other.is_alive()
    other.kill()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    assert not os.path.exists(os.path.join(data, motion_job.MANIFEST))
    # Any process may go on with the rest: here one that takes all shards.
    motion_job.run(data, MeanExtractor(str(tmp_path / "rest")))
    assert published(data) == published(alone)
    assert (tmp_path / "rest").read_text().count("call") == 2  # of five shards, three were done


def test_clips_go_only_when_their_features_are_sound(data):
    class Broken(MeanExtractor):
        def __call__(self, clips):
            return super().__call__(clips) * np.nan

    clips = os.path.join(data, "vqa_clips")
    with pytest.raises(files.CorpusError, match="the clips are kept"):
        motion_job.run(data, Broken(), delete_clips=True)
    assert os.path.isdir(clips)
    os.remove(os.path.join(data, motion_job.MANIFEST))
    motion_job.run(data, MeanExtractor())
    assert np.isfinite(store_lib.RecordStore(data, "vqa_motion")["train-0-0"]["features"]).all()
    shutil.rmtree(os.path.join(data, "vqa_motion"))  # and nobody looked
    with pytest.raises(files.CorpusError, match="the clips are kept"):
        motion_job.run(data, MeanExtractor(), delete_clips=True)
    os.remove(os.path.join(data, motion_job.MANIFEST))
    motion_job.run(data, MeanExtractor(), delete_clips=True)
    assert not os.path.exists(clips) and work_folders(data) == []
    # Complete is complete, but another extractor would need the clips.
    assert motion_job.run(data, MeanExtractor(), delete_clips=True).missing == 0
    other = MeanExtractor()
    other.fingerprint = lambda pre: "other"
    with pytest.raises(files.CorpusError, match="the clips were deleted"):
        motion_job.run(data, other)
    assert published(data)["identity"]["extractor"] == "mean-16"


def test_a_process_number_out_of_range_is_refused(data):
    with pytest.raises(files.CorpusError, match="number the processes 0 to 1"):
        motion_job.run(data, MeanExtractor(), process=2, processes=2)


@pytest.mark.slow
def test_published_geometry_takes_the_same_path(data, tmp_path):
    """Ten clips of 224 pixels through a pathway of width 1, few frames each to spare time."""
    cfg = network.FastPathwayConfig(stem_width=1)
    model = network.FastPathway(cfg, nnx.Rngs(0))
    weights = str(tmp_path / "w.safetensors")
    save_file(slowfast.export_pathway(model), weights)
    clips = np.random.default_rng(1).integers(0, 256, (10, 2, 224, 224, 3), np.uint8)
    clips[8:] = clips[7]  # a short video repeats its last clip
    path = records.dataset_shards(data, "vqa_clips", "heldout")[0]
    ids = files.read_json(path + ".json")["ids"]
    os.remove(path)
    records.write_shard(path, "vqa_clips", [{"video_id": i, "clips": clips} for i in ids])
    row = files.read_json(path + ".json")
    manifest = files.read_json(os.path.join(data, records.MANIFEST))
    splits = {"heldout": [{k: row[k] for k in ("name", "records", "sha256")}]}
    manifest["datasets"]["vqa_clips"] |= {"splits": splits}
    manifest["settings"]["preprocess"] = {}  # the defaults are the published ones
    files.write_json(os.path.join(data, records.MANIFEST), manifest)
    extractor = motion.load_extractor(weights, batch_size=4, devices=jax.local_devices()[:2])
    assert motion_job.run(data, extractor).videos == VIDEOS_PER_SHARD
    for record in store_lib.shard_records(
        records.dataset_shards(data, "vqa_motion")[0], "vqa_motion"
    ):
        assert record["features"].shape == (10, cfg.motion_dim)
        np.testing.assert_array_equal(record["features"][7], record["features"][9])
