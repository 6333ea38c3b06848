"""Measures the nine low-level metrics of method 2 on every input of a listing.

    python -m data_prep metrics --videos LISTING --out metrics.parquet [-- BEAM_OPTION ...]

The table has one row for each usable input; `metrics.parquet.quarantine.csv` says why the others
are not in it. A killed run resumes: ranges of inputs that are finished lie in
`metrics.parquet.work` until the table is written.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from data_prep.inputs import source
from data_prep.inputs.listing import (
    Input,
    absolute,
    content_hash,
    file_stamps,
    read_listing,
)
from data_prep.prepare.beam import run_units
from data_prep.selection import metrics_spatial, metrics_temporal
from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import (
    CorpusError,
    exclusive,
    printable,
    remove_own,
    remove_temporary,
    written,
)
from vqa_jax.media import isolation, sources
from vqa_jax.media.container import MediaError
from vqa_jax.media.decode import iter_frames
from vqa_jax.media.probe import probe
from vqa_jax.media.view import key_frame_indices
from vqa_jax.settings import DecodeLimits

METRICS = (
    "blockiness",
    "blur",
    "contrast",
    "noise",
    "flicker",
    "colourfulness",
    "luminance",
    "si",
    "ti",
)
_MEANS = {
    "blockiness": metrics_spatial.blockiness,
    "blur": metrics_spatial.blur,
    "contrast": metrics_spatial.contrast,
    "noise": metrics_spatial.noise,
    "colourfulness": metrics_spatial.colourfulness,
    "luminance": metrics_spatial.luminance,
}
_RUN = 3  # consecutive frames from each key frame that the temporal metrics look at: two changes
_RANGE = 256  # inputs of one unit of work
_VERSION = 1  # raise it when a metric changes: tables of another version are measured anew
_LABELS = ("path", "source", "licence", "split")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in _LABELS] + [(name, pa.float64()) for name in METRICS]
)
_INPUTS = pa.schema([(name, pa.binary()) for name in ("key", *_LABELS)])  # file names are bytes
_REJECTED = b"rejected"  # metadata key of a part: its quarantined inputs


def measure(path: str, max_pixels: int) -> dict[str, float]:
    """The nine metrics of a video, one measurement a second.

    Spatial metrics look at the key frames (every round(fps)-th); the temporal ones at the change
    over the two frames after each, as frames a second apart share little. SI and TI are the
    maximum over time (ITU-T P.910), the others the mean. A still picture has no flicker and no TI.

    Args:
      path: a local file.
      max_pixels: most pixels of a frame; 0: any.

    Returns:
      Metric -> value, in the order of METRICS.

    Raises:
      MediaError: the file cannot be used, or its frames are too large.
    """
    info = probe(path, max_pixels)
    keys = set(key_frame_indices(info.num_frames, info.fps))
    wanted = {k + i for k in keys for i in range(_RUN) if k + i < info.num_frames}
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    run: list[tuple[int, np.ndarray]] = []

    def end_run() -> None:
        lumas = np.stack([luma for _, luma in run])
        values["flicker"].append(metrics_temporal.flicker(lumas))
        values["ti"].append(metrics_temporal.temporal_information(lumas))
        run.clear()

    for number, frame in iter_frames(path, wanted, info):
        if number in keys:
            for name, function in _MEANS.items():
                values[name].append(function(frame))
            values["si"].append(metrics_spatial.spatial_information(frame))
        if run and (number != run[-1][0] + 1 or len(run) == _RUN):
            end_run()
        run.append((number, metrics_spatial.gray(frame)))
    end_run()
    return {
        name: float(max(found) if name in ("si", "ti") else np.mean(found))
        for name, found in values.items()
    }


def measure_listing(
    spec: str, out: str, limits: DecodeLimits, beam_args: Sequence[str]
) -> tuple[int, int]:
    """Measures every input of a listing and writes the table and its quarantine.

    Args:
      spec: as `listing.read_listing`.
      out: Parquet file with SCHEMA, rows in the order of the listing; its quarantine and its
        working folder lie beside it.
      limits: of one file.
      beam_args: Beam options.

    Returns:
      (rows, quarantined); together the inputs.

    Raises:
      CorpusError: the listing cannot be read, or inputs are unaccounted for.
    """
    inputs = read_listing(spec)
    name = _identity(limits, inputs, content_hash(inputs, file_stamps(inputs)))
    if _is_finished(out, name, _identity(limits, inputs)):
        rows = pq.read_metadata(out).num_rows
        logging.info("%s is complete: delete it to measure anew", out)
        return rows, len(inputs) - rows
    with exclusive(out + ".work"):
        folder = os.path.join(out + ".work", name)
        os.makedirs(folder, exist_ok=True)
        remove_temporary(folder)
        table = os.path.join(folder, "inputs.parquet")
        _write_inputs(table, inputs)
        units = list(range(-(-len(inputs) // _RANGE)))
        parts = [_part(folder, unit) for unit in units]
        run_units(
            "measure",
            units,
            parts,
            functools.partial(_measure_range, folder, limits),
            beam_args,
        )
        counts = _merge(out, name, parts)
    if sum(counts) != len(inputs):
        raise CorpusError(
            f"{len(inputs)} inputs, but {counts[0]} rows and {counts[1]} quarantined: delete"
            f" {out}.work and run again"
        )
    shutil.rmtree(folder)
    remove_own(out + ".work", "")
    return counts


def read_metrics(path: str) -> pa.Table:
    """Reads a table of metrics; its columns are those of SCHEMA, in that order.

    Raises:
      CorpusError: no such file, no Parquet file, or a column is missing.
    """
    try:
        return pq.read_table(path, columns=SCHEMA.names).select(SCHEMA.names)
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(
            f"{path} is no table of metrics ({error}): write it with `python -m data_prep metrics`"
        ) from error


def _identity(limits: DecodeLimits, inputs: Sequence[Input], *contents: str) -> str:
    """Hash of all that a table follows from; tables of earlier versions tell no contents."""
    text = repr((_VERSION, limits, inputs, *contents))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _is_finished(out: str, identity: str, earlier: str) -> bool:
    if not os.path.exists(out):
        return False
    try:
        told = (pq.read_schema(out).metadata or {}).get(b"identity")
    except (OSError, pa.ArrowException):
        return False
    if told == earlier.encode():
        logging.info("%s does not tell its inputs' contents: taken to be the same", out)
    return told in (identity.encode(), earlier.encode())


def _part(folder: str, unit: int) -> str:
    return os.path.join(folder, f"part-{unit:06d}.parquet")


def _write(table: pa.Table, path: str, **options: int) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    pq.write_table(table, temporary, **options)
    os.replace(temporary, path)


def _write_inputs(path: str, inputs: Sequence[Input]) -> None:
    """Stores the listing by ranges, so that a unit reads its own inputs only."""
    columns = [
        pa.array([getattr(i, name).encode("utf-8", "surrogateescape") for i in inputs], pa.binary())
        for name in _INPUTS.names
    ]
    _write(pa.Table.from_arrays(columns, schema=_INPUTS), path, row_group_size=_RANGE)


def _measure_range(folder: str, limits: DecodeLimits, unit: int) -> None:
    """Measures one range of inputs; its part holds the rows, and the rejected as metadata."""
    group = pq.ParquetFile(os.path.join(folder, "inputs.parquet")).read_row_group(unit)
    rows, rejected = [], []
    for raw in group.to_pylist():
        entry = Input(**{k: v.decode("utf-8", "surrogateescape") for k, v in raw.items()})
        found = _measure_input(entry, limits)
        if isinstance(found, source.Rejected):
            rejected.append([printable(found.path), found.stage, printable(found.reason)])
        else:
            path = absolute(entry.path)
            labels = {name: getattr(entry, name) for name in _LABELS} | {"path": path}
            rows.append(labels | found)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    notes = {_REJECTED: json.dumps(rejected)}
    _write(table.replace_schema_metadata(notes), _part(folder, unit))


def _measure_input(entry: Input, limits: DecodeLimits) -> dict[str, float] | source.Rejected:
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        return source.Rejected(entry.path, "listing", "its name is not UTF-8: rename the file")
    try:
        with sources.local(entry.path, limits.seconds) as path:
            found = isolation.call(limits, path, measure, path, limits.pixels)
    except MediaError as error:
        return source.Rejected(entry.path, error.stage, error.reason)
    broken = [name for name, value in found.items() if not np.isfinite(value)]
    if broken:
        return source.Rejected(entry.path, "measure", f"not finite: {', '.join(broken)}")
    return found


def _merge(out: str, identity: str, parts: Sequence[str]) -> tuple[int, int]:
    """Joins the parts into the table and its quarantine; the table appears last."""
    temporary = f"{out}.{os.getpid()}.tmp"
    schema = SCHEMA.with_metadata({b"identity": identity.encode()})
    rows = quarantined = 0
    with (
        written(out + ".quarantine.csv", newline="") as file,
        pq.ParquetWriter(temporary, schema) as writer,
    ):
        quarantine = csv_cells.Writer(file)
        quarantine.writerow(["path", "stage", "reason"])
        for path in parts:
            part = pq.read_table(path)
            rejected = json.loads(part.schema.metadata[_REJECTED])
            quarantine.writerows(rejected)
            quarantined += len(rejected)
            rows += len(part)
            writer.write_table(part.replace_schema_metadata(schema.metadata))
    os.replace(temporary, out)
    return rows, quarantined
