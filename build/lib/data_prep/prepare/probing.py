"""The probe stage: every input is opened once, in ranges of inputs with one file of rows each."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from data_prep.inputs import listing, source
from data_prep.inputs.deduplicate import Fingerprint, fingerprint
from data_prep.prepare.beam import run_units
from data_prep.prepare.config import PrepConfig
from vqa_jax.jobs import files
from vqa_jax.media import container, isolation, sources
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.settings import DecodeLimits

INPUTS_PER_UNIT = 256
_ROWS = 2  # version of the files of rows
_LIMIT_NAMES = ("prep.limit_seconds", "prep.limit_memory_mb")


@dataclasses.dataclass(frozen=True)
class Probed:
    """What the probe knows of an input; `info` or else `rejected` is set.

    `fingerprint` tells copies, where they are looked for. `stamp`: as of `source.Source`.
    """

    entry: listing.Input
    stamp: tuple[int, int, str]
    info: VideoInfo | None
    fingerprint: Fingerprint | None
    rejected: source.Rejected | None


def isolated(config: PrepConfig, path: str, fn: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Items of `fn(*args)`, made in this thread's child process where the config sets limits."""
    if config.limit_seconds or config.limit_memory_mb:
        limits = DecodeLimits(config.limit_seconds, config.limit_memory_mb, names=_LIMIT_NAMES)
        yield from isolation.run(limits, path, fn, *args)
        return
    with container.typed(path, "decode"):
        yield from fn(*args)


def probe_inputs(
    entries: Sequence[listing.Input],
    stamps: Sequence[listing.Stamp],
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
                    _fingerprint(**row["fingerprint"]) if row["fingerprint"] else None,
                    source.Rejected(**row["rejected"]) if row["rejected"] else None,
                )


def _fingerprint(hashes: Sequence[int], **others: Any) -> Fingerprint:
    return Fingerprint(hashes=tuple(hashes), **others)


def _rows_path(work: str, name: str) -> str:
    return os.path.join(work, f"{name}.rows.jsonl")


def _write_range(
    entries: Sequence[listing.Input],
    stamps: Sequence[listing.Stamp],
    work: str,
    config: PrepConfig,
) -> str:
    rows = [
        (dataclasses.asdict(e), list(dataclasses.astuple(s)))
        for e, s in zip(entries, stamps, strict=True)
    ]
    limits = (config.limit_seconds, config.limit_pixels, config.limit_memory_mb)
    rules = (config.hdr, config.truncated, config.deduplicate, *limits)
    name = f"probe-{files.key_hash(repr((_ROWS, rows, rules))):016x}"
    path = os.path.join(work, f"{name}.inputs.jsonl")
    if not os.path.exists(path):
        with files.written(path) as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
    return name


def _probe_range(name: str, work: str, config: PrepConfig) -> None:
    with (
        open(os.path.join(work, f"{name}.inputs.jsonl"), encoding="ascii") as inputs,
        files.written(_rows_path(work, name)) as rows,
    ):
        for line in inputs:
            fields, stamp = json.loads(line)
            result = _probe_input(listing.Input(**fields), stamp, config)
            rows.write(json.dumps({"entry": fields} | result) + "\n")


def _probe_input(entry: listing.Input, stamp: list[Any], config: PrepConfig) -> dict[str, Any]:
    """An input's row without its entry."""
    row = {"stamp": stamp, "info": None, "fingerprint": None, "rejected": None}
    try:
        with sources.local(entry.path, config.limit_seconds) as path:
            ((info, fingerprint),) = isolated(config, path, _probe, path, config)
            if path != entry.path:
                row["stamp"] = [*stamp[:2], listing.held(entry, path)]
    except MediaError as e:
        why = source.Rejected(entry.key, e.stage, e.reason)
        return row | {"rejected": dataclasses.asdict(why)}
    info = dataclasses.replace(info, path=entry.path)  # not of a copy that is gone
    found = dataclasses.asdict(fingerprint) if fingerprint else None
    return row | {"info": dataclasses.asdict(info), "fingerprint": found}


def _probe(path: str, config: PrepConfig) -> list[tuple[VideoInfo, Fingerprint | None]]:
    """One item: what the probe finds, and what tells copies of the file."""
    info = probe(path, config.limit_pixels)
    if info.hdr and config.hdr == "refuse":
        reason = f'is HDR ({info.transfer}): set prep.hdr to "tone_map", or give an SDR version'
        raise MediaError(path, "probe", reason)
    if info.missing and config.truncated == "refuse":
        reason = f'holds {info.missing}: fetch it again, or set prep.truncated to "use"'
        raise MediaError(path, "probe", reason)
    if config.deduplicate == "off":
        return [(info, None)]
    try:
        return [(info, fingerprint(path, info, near=config.deduplicate == "near"))]
    except OSError as e:
        raise MediaError(path, "probe", f"cannot be read again ({e.strerror})") from e
