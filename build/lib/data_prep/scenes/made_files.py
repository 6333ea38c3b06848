"""A folder of made videos: those that agree with the manifest are kept, the others are made."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import cv2
from absl import logging

from data_prep.scenes.photographs import Photograph
from vqa_jax.jobs import workers as worker_processes

MANIFEST = "scenes.json"


class Job(Protocol):
    """One file to make: its name, a hash of all that it depends on, and how to make it."""

    @property
    def file(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def make(self) -> tuple[bytes, dict]:
        """The file's bytes and what the manifest tells of it, with `split`."""
        ...


def fingerprint(facts: Any) -> str:
    """SHA-256 of facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _make(job: Job, out: str) -> dict:
    """Makes one file; returns its entry of the manifest."""
    cv2.setNumThreads(1)
    data, told = job.make()
    path = pathlib.Path(out) / job.file
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    sealed = {"sha256": hashlib.sha256(data).hexdigest(), "fingerprint": job.fingerprint}
    return {"file": job.file, **told, **sealed}


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
    path: pathlib.Path, told: dict, pool: Sequence[Photograph], entries: Iterable[dict]
) -> dict:
    """Write the manifest by way of a temporary name; returns it."""
    manifest = {
        **told,
        "photographs": [
            {"id": p.id, "split": p.split, "sha256": p.sha256, "licence": p.licence} for p in pool
        ],
        "scenes": sorted(entries, key=lambda entry: entry["file"]),
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(partial, path)
    return manifest


def _is_done(entry: dict | None, job: Job, folder: pathlib.Path) -> bool:
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


def make_files(
    jobs: Sequence[Job], told: dict, pool: Sequence[Photograph], out: str, workers: int
) -> dict:
    """Makes the files of `jobs` in folder `out`, in `workers` processes.

    Files that exist and agree with the manifest are kept, those of other jobs are removed.

    Args:
      jobs: of different file names.
      told: what the manifest says of all of them: renderer and config.
      pool: the photographs that they are made of.
      out: folder; made where there is none.
      workers: processes.

    Returns:
      The manifest, as in out/scenes.json: `told`, photographs, scenes.
    """
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
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
            _write_manifest(manifest_path, told, pool, done.values())
            if number % 12 == 0 or number == len(todo):
                logging.info("scenes: %d of %d made", number, len(todo))
    return _write_manifest(manifest_path, told, pool, done.values())
