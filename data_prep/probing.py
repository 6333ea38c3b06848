"""The probe stage: every input is opened once, in ranges of inputs with one file of rows each."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from data_prep import ingest, listing
from data_prep.config import PrepConfig
from data_prep.isolation import Limits, kept
from data_prep.work import run_units
from vqa_jax import records
from vqa_jax.frames import MediaError, VideoInfo, probe

INPUTS_PER_UNIT = 256
_STAMP_THREADS = 32  # waiting for a file server, mostly


@dataclasses.dataclass(frozen=True)
class Probed:
    """What the probe knows of an input; `info` or else `rejected` is set."""

    entry: listing.Input
    stamp: tuple[int, int]
    info: VideoInfo | None
    rejected: ingest.Rejected | None


def stamp_inputs(entries: Sequence[listing.Input]) -> list[tuple[int, int]]:
    """`listing.file_stamp` of every input, in order."""
    with concurrent.futures.ThreadPoolExecutor(_STAMP_THREADS) as pool:
        return list(pool.map(listing.file_stamp, entries, chunksize=INPUTS_PER_UNIT))


def isolated(config: PrepConfig, path: str, fn: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Items of `fn(*args)`, made in this thread's child process where the config sets limits."""
    if config.limit_seconds:
        return kept(Limits(config.limit_seconds, config.limit_memory_mb)).run(path, fn, *args)
    return iter(fn(*args))


def probe_inputs(
    entries: Sequence[listing.Input],
    stamps: Sequence[tuple[int, int]],
    work: str,
    config: PrepConfig,
    beam_args: Sequence[str],
) -> list[str]:
    """Probes all inputs on a Beam runner; returns the files of their rows, in order.

    A file's name follows from its inputs, their stamps and the settings that a probe obeys: what an
    interrupted run has finished is used again, unless one of its inputs was replaced since.
    """
    names = []
    for start in range(0, len(entries), INPUTS_PER_UNIT):
        part = slice(start, start + INPUTS_PER_UNIT)
        names.append(_write_range(entries[part], stamps[part], work, config))
    targets = [_rows_path(work, name) for name in names]
    fn = functools.partial(_probe_range, work=work, config=config)
    run_units("probe", names, targets, fn, beam_args)
    return targets


def read_probed(paths: Sequence[str]) -> Iterator[Probed]:
    """All rows of `probe_inputs`, one in memory at a time."""
    for path in paths:
        with open(path, encoding="ascii") as f:
            for line in f:
                row = json.loads(line)
                yield Probed(
                    listing.Input(**row["entry"]),
                    tuple(row["stamp"]),
                    VideoInfo(**row["info"]) if row["info"] else None,
                    ingest.Rejected(**row["rejected"]) if row["rejected"] else None,
                )


def _rows_path(work: str, name: str) -> str:
    return os.path.join(work, f"{name}.rows.jsonl")


def _write_range(
    entries: Sequence[listing.Input],
    stamps: Sequence[tuple[int, int]],
    work: str,
    config: PrepConfig,
) -> str:
    rows = [(dataclasses.asdict(e), list(s)) for e, s in zip(entries, stamps, strict=True)]
    rules = (config.hdr, config.limit_seconds, config.limit_pixels, config.limit_memory_mb)
    name = f"probe-{records.key_hash(repr((rows, rules))):016x}"
    path = os.path.join(work, f"{name}.inputs.jsonl")
    if not os.path.exists(path):
        with records.written(path) as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
    return name


def _probe_range(name: str, work: str, config: PrepConfig) -> None:
    with (
        open(os.path.join(work, f"{name}.inputs.jsonl"), encoding="ascii") as inputs,
        records.written(_rows_path(work, name)) as rows,
    ):
        for line in inputs:
            fields, stamp = json.loads(line)
            entry = listing.Input(**fields)
            row: dict[str, Any] = {"entry": fields, "stamp": stamp, "info": None, "rejected": None}
            try:
                with listing.local_copy(entry) as path:
                    (info,) = isolated(config, path, _probe, path, config)
                row["info"] = dataclasses.asdict(info)
            except MediaError as e:
                row["rejected"] = dataclasses.asdict(ingest.Rejected(entry.key, e.stage, e.reason))
            rows.write(json.dumps(row) + "\n")


def _probe(path: str, config: PrepConfig) -> list[VideoInfo]:
    info = probe(path)
    if config.limit_pixels and info.width * info.height > config.limit_pixels:
        size = f"{info.width}x{info.height}"
        raise MediaError(path, "limit", f"frames of {size} exceed prep.limit_pixels")
    return [info]
