"""Built-in scenes: real mp4 files made from a few photographs, so that the loop runs without data.

    python -m data_prep scenes --out DIR --num 72 --seed 0 [--photos DIR] [--workers 2]

Photographs are filmed by a moving camera, alone or behind moving things; dead-leaves pictures cut
from them make content that does not run out. Every sixth scene is held out, and uses held-out
photographs only. DIR/scenes.json lists the files; a rerun makes only what is missing.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from absl import logging

from data_prep.scenes import scene_film
from data_prep.scenes.photographs import Photograph, find_photographs
from data_prep.simulators.encode import EncodeConfig, encode_rgb
from vqa_jax.errors import VqaError
from vqa_jax.jobs import workers as worker_processes

RENDERER = 2  # raise it when the same seed gives other pixels: files of older ones are made anew
MANIFEST = "scenes.json"
FRAME_RATES = (24, 25, 30, 50, 60)
HELDOUT_EVERY = 6


class SceneError(VqaError):
    """The scenes cannot be made as asked; says why, and what to change."""


@dataclass(frozen=True)
class SceneConfig:
    """What to make.

    Args:
        num: number of scenes, of which num // 6 are held out.
        seed: scenes of two seeds share photographs but nothing else.
        photos: folder of further jpg or png pictures, or None.
        width, height: frame size, even.
        seconds: length of each.
        crf: x264's constant rate factor; low, because these files are the pristine sources.
    """

    num: int = 72
    seed: int = 0
    photos: str | None = None
    width: int = 384
    height: int = 288
    seconds: float = 3.2
    crf: int = 11

    def __post_init__(self) -> None:
        if self.num < 1 or self.seconds <= 0:
            raise SceneError(f"num {self.num} and seconds {self.seconds} must be positive")
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 64:
            raise SceneError(f"size {self.width}x{self.height}: give even sides of 64 or more")


@dataclass(frozen=True)
class _Job:
    """One scene to make, with all that it depends on."""

    config: SceneConfig
    index: int
    kind: str
    split: str
    filmed: Photograph | None
    pool: tuple[Photograph, ...]

    @property
    def file(self) -> str:
        return f"scene_{self.index:04d}_{self.split}_{self.kind}.mp4"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the file's content."""
        config = {key: value for key, value in asdict(self.config).items()
                  if key not in ("num", "photos")}  # fmt: skip
        facts = [RENDERER, config, self.index, self.kind, self.split,
                 self.filmed and self.filmed.sha256, [p.sha256 for p in self.pool]]  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def plan(config: SceneConfig, pool: Sequence[Photograph]) -> list[_Job]:
    """The scenes of `config`: kinds in fixed shares, photographs of the split in turn."""
    jobs = []
    made = {"train": 0, "heldout": 0}
    filmed_count = {"train": 0, "heldout": 0}
    by_split = {name: tuple(p for p in pool if p.split == name) for name in made}
    filmable = {name: [p for p in group if p.filmable] for name, group in by_split.items()}
    order = np.random.default_rng([config.seed, 1])
    for group in filmable.values():
        order.shuffle(group)
    for index in range(config.num):
        split = "heldout" if index % HELDOUT_EVERY == HELDOUT_EVERY - 1 else "train"
        kind = scene_film.KINDS[made[split] % len(scene_film.KINDS)]
        made[split] += 1
        filmed = None
        if kind in scene_film.FILMED_KINDS:
            filmed = filmable[split][filmed_count[split] % len(filmable[split])]
            filmed_count[split] += 1
        jobs.append(_Job(config, index, kind, split, filmed, by_split[split]))
    return jobs


def _make(job: _Job, out: str) -> dict:
    """Make one file; returns its entry of the manifest."""
    cv2.setNumThreads(1)
    config = job.config
    rng = np.random.default_rng([config.seed, 2, job.index])
    fps = int(rng.choice(FRAME_RATES))
    palette = [job.pool[i] for i in rng.permutation(len(job.pool))[: int(rng.integers(2, 5))]]
    size = (config.width, config.height)
    scene = scene_film.compose(rng, job.kind, job.filmed, palette, size, config.seconds)
    num_frames = int(np.ceil(config.seconds * fps))
    frames = scene_film.film(scene, fps, num_frames, size)
    data = encode_rgb(frames, fps, EncodeConfig("h264", config.crf, "veryfast"))
    path = pathlib.Path(out) / job.file
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    return {
        "file": job.file,
        "split": job.split,
        "kind": job.kind,
        "photographs": list(scene.photographs),
        "seed": [config.seed, 2, job.index],
        "fps": fps,
        "frames": num_frames,
        "width": config.width,
        "height": config.height,
        "camera": scene.camera.style,
        "look": scene.look,
        "sha256": hashlib.sha256(data).hexdigest(),
        "fingerprint": job.fingerprint,
    }


def _read_entries(path: pathlib.Path) -> dict[str, dict]:
    """Entries of an earlier manifest by file name; none where it is absent or damaged."""
    try:
        return {entry["file"]: entry for entry in json.loads(path.read_text())["scenes"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        logging.warning("%s is damaged (%s): all scenes are made anew", path, error)
        return {}


def _write_manifest(
    path: pathlib.Path, config: SceneConfig, pool: Sequence[Photograph], entries: Iterable[dict]
) -> dict:
    """Write the manifest by way of a temporary name; returns it."""
    manifest = {
        "renderer": RENDERER,
        "config": asdict(config),
        "photographs": [
            {"id": p.id, "split": p.split, "sha256": p.sha256, "licence": p.licence} for p in pool
        ],
        "scenes": sorted(entries, key=lambda entry: entry["file"]),
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(partial, path)
    return manifest


def _is_done(entry: dict | None, job: _Job, folder: pathlib.Path) -> bool:
    """Whether the job's file exists with the content that the manifest says."""
    return (
        entry is not None
        and entry.get("fingerprint") == job.fingerprint
        and _is_ours(entry, folder)
    )


def _is_ours(entry: dict, folder: pathlib.Path) -> bool:
    """Whether an entry's file lies in the folder itself and is as it was written."""
    path = folder / pathlib.PurePath(entry["file"]).name
    return (
        path == folder / entry["file"]
        and path.is_file()
        and hashlib.sha256(path.read_bytes()).hexdigest() == entry.get("sha256")
    )


def make_scenes(config: SceneConfig, out: str, workers: int = 1) -> dict:
    """Make the scenes of `config` in folder `out`, in `workers` processes.

    Files that exist and agree with the manifest are kept, those of another plan are removed. The
    result depends on `config` and the photographs only, not on `workers` or on interruptions.

    Returns:
        The manifest, as in out/scenes.json: renderer, config, photographs, scenes.

    Raises:
        PhotographError: photographs are missing or cannot be read.
    """
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    pool = find_photographs(config.photos)
    jobs = plan(config, pool)
    manifest_path = folder / MANIFEST
    earlier = _read_entries(manifest_path)
    done = {job.file: earlier[job.file] for job in jobs
            if _is_done(earlier.get(job.file), job, folder)}  # fmt: skip
    for name in earlier.keys() - {job.file for job in jobs}:
        if _is_ours(earlier[name], folder):
            (folder / name).unlink()
    todo = [job for job in jobs if job.file not in done]
    logging.info("scenes: %d to make, %d kept, in %s", len(todo), len(done), out)
    with contextlib.ExitStack() as stack:
        if workers > 1 and len(todo) > 1:
            pool_of_processes = stack.enter_context(worker_processes.pool(workers))
            stack.callback(pool_of_processes.shutdown, cancel_futures=True)
            futures = [pool_of_processes.submit(_make, job, out) for job in todo]
            results = (future.result() for future in concurrent.futures.as_completed(futures))
        else:
            results = (_make(job, out) for job in todo)
        for number, entry in enumerate(results, 1):
            done[entry["file"]] = entry
            _write_manifest(manifest_path, config, pool, done.values())
            if number % 12 == 0 or number == len(todo):
                logging.info("scenes: %d of %d made", number, len(todo))
    return _write_manifest(manifest_path, config, pool, done.values())
