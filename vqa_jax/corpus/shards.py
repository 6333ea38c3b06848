"""Record schemas and shards: what is stored, how it is written once, verified and read by key.

Three kinds of record, so that relabelling rewrites megabytes and never the frames: a *video*
holds the frames a student looks at, a *motion* record its motion features, a *pair* names two
videos and carries the label. Clips are temporary input of the motion job. Schemas are TFDS
features, so that `tfds.builder_from_directory` reads the shards; they are written here because
shards must be addressed by key hash, appear under their name only when complete, and be hashed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from vqa_jax.corpus.schemas import CITATION, DESCRIPTIONS, FEATURES, HOMEPAGE, VERSION, serialize
from vqa_jax.jobs import fields, outputs
from vqa_jax.jobs.contents import checked_sha256
from vqa_jax.jobs.files import (
    CorpusError,
    commit,
    file_sha256,
    is_name,
    read_json,
    remove_temporary,
    temporary_name,
    write_sealed,
)
from vqa_jax.media.preprocess import Preprocess

_WRITER = "vqa_jax.records"  # as dataset_info.json has had it since the first corpus: bytes stay
# Files of a corpus folder beside its datasets.
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.csv"
# What is relied on in a manifest's entry of a dataset, and of several; see `files.read_json`.
DATASET = {"kind": str, "splits": {str: [{"name": is_name, "records": int}]}}
DATASETS = {str: DATASET}
# Kinds that nobody needs once networks have seen them.
TEMPORARY = ("vqa_clips", "vqa_views")
RESTORE = "restore it, or run the step that writes its dataset again"
_SHARD = {"name": str, "records": int, "sha256": str, "ids": [str]}
_SHARD_OPTIONS = "group_size:1,zstd:1"  # one record a chunk: constant-time random reads


@dataclasses.dataclass(frozen=True)
class Shard:
    """One finished shard: file name, number of records, SHA-256 and number of its bytes, ids."""

    name: str
    records: int
    sha256: str
    num_bytes: int
    ids: tuple[str, ...]  # in stored order


class ShardWriter:
    """Writes one shard under a temporary name; `finish` hashes, renames and returns it.

    Used as a context manager: an exception inside leaves no file under the final name.
    """

    def __init__(self, path: str, kind: str):
        self.path, self.kind = path, kind
        self._temporary = temporary_name(path)
        self._ids: list[str] = []
        with _of_the_system(path):
            self._writer = array_record_module.ArrayRecordWriter(self._temporary, _SHARD_OPTIONS)

    def write(self, example: Mapping[str, Any]) -> None:
        """Appends one record; its key is `video_id` or `pair_id`."""
        key = str(example["pair_id" if self.kind == "vqa_pairs" else "video_id"])
        self.write_serialized(key, serialize(self.kind, example))

    def write_serialized(self, key: str, data: bytes) -> None:
        """Appends one record by its key and its bytes, which are those of `serialize`."""
        with _of_the_system(self.path):
            self._writer.write(data)
        self._ids.append(key)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        try:
            with _of_the_system(self.path):
                self._writer.close()
        except OSError:
            os.remove(self._temporary)
            if kind is None:
                raise
            return
        if kind is not None:
            os.remove(self._temporary)

    def finish(self) -> Shard | None:
        """Renames the closed shard, its JSON sidecar written last; an empty one leaves no file."""
        if not self._ids:
            os.remove(self._temporary)
            return None
        shard = Shard(
            name=os.path.basename(self.path),
            records=len(self._ids),
            sha256=file_sha256(self._temporary),
            num_bytes=os.path.getsize(self._temporary),
            ids=tuple(self._ids),
        )
        commit(self._temporary, self.path)
        write_sealed(self.path + ".json", dataclasses.asdict(shard))
        return shard


@contextlib.contextmanager
def _of_the_system(path: str) -> Iterator[None]:
    """Raises as an OSError on `path` what ArrayRecord tells of the system in a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        other = OSError(errno.EIO, os.strerror(errno.EIO), path)
        raise outputs.of_the_system(error, path) or other from error


def write_shard(path: str, kind: str, examples: Iterable[Mapping[str, Any]]) -> Shard | None:
    """Writes all `examples` as one shard."""
    with ShardWriter(path, kind) as writer:
        for example in examples:
            writer.write(example)
    return writer.finish()


def complete_shard(path: str) -> Shard | None:
    """The shard at `path` if it exists as long as its sidecar says, else None; reads no record.

    Sidecars are written after their shards, so this tells whole ones from those of a killed job.
    Sidecars of earlier versions do not tell the size; such shards are hashed.
    """
    if not (os.path.exists(path) and os.path.exists(path + ".json")):
        return None
    try:
        found = read_json(path + ".json", _SHARD)
    except CorpusError:  # a damaged sidecar tells nothing
        return None
    size = os.path.getsize(path)
    if "num_bytes" not in found and file_sha256(path) != found["sha256"]:
        return None
    told = {name: found[name] for name in _SHARD} | {"ids": tuple(found["ids"])}
    return Shard(**told, num_bytes=size) if found.get("num_bytes", size) == size else None


def finished_shard(path: str) -> Shard | None:
    """The shard at `path` if it is complete and its bytes match its sidecar, else None.

    For work that goes on after a kill or a crash of the machine; it reads the whole file.
    """
    shard = complete_shard(path)
    return shard if shard and file_sha256(path) == shard.sha256 else None


def intact_sha256(path: str) -> str:
    """SHA-256 of a published shard that is read anyway.

    Raises:
      CorpusError: it is not the one that its sidecar tells.
    """
    return checked_sha256(path, read_json(path + ".json", {"sha256": str})["sha256"], RESTORE)


def read_view(data: str) -> Preprocess:
    """The view that a corpus was prepared for.

    Raises:
      CorpusError: its manifest is missing, damaged or another kind of job's.
    """
    path = os.path.join(data, MANIFEST)
    told = read_json(path, {"settings": {"preprocess": dict}})["settings"]["preprocess"]
    return fields.build(Preprocess, told, path, CorpusError)


def builder_dir(root: str, name: str) -> str:
    """Folder of a dataset's shards below a corpus root, as TFDS lays it out."""
    return os.path.join(root, name, VERSION)


def shard_name(dataset: str, split: str, index: int, count: int) -> str:
    """TFDS's file name of a shard."""
    return f"{dataset}-{split}.array_record-{index:05d}-of-{count:05d}"


def publish(root: str, name: str, kind: str, shards: Mapping[str, list[str]]) -> dict[str, Any]:
    """Makes finished shards a TFDS dataset: final names, `dataset_info.json`, `features.json`.

    Shards are told complete by their sizes: whoever resumes has hashed them, and verification
    does, but once more here, one after the other, would take hours for millions of videos.

    Args:
      root: corpus folder; the dataset becomes root/name/VERSION.
      name: dataset name, `kind` or `kind` with a suffix such as the iteration.
      kind: a key of FEATURES.
      shards: split -> paths of finished shards in order (on the same file system).

    Returns:
      Manifest entry: {"kind", "splits": {split: [{"name", "records", "sha256"}]}}.
    """
    folder = builder_dir(root, name)
    os.makedirs(folder, exist_ok=True)
    remove_temporary(folder)
    shard_file = re.compile(re.escape(name) + r"-.+\.array_record-\d{5}-of-\d{5}(\.json)?")
    earlier = set(filter(shard_file.fullmatch, os.listdir(folder)))
    entry: dict[str, Any] = {"kind": kind, "splits": {}}
    split_infos = []
    for split, paths in sorted(shards.items()):
        rows = []
        size = 0
        for index, path in enumerate(paths):
            target = os.path.join(folder, shard_name(name, split, index, len(paths)))
            shard = complete_shard(path)
            if shard is None:
                raise CorpusError(f"{path} is incomplete: rerun the step that writes it")
            shard = dataclasses.replace(shard, name=os.path.basename(target))
            if path != target:
                _link(path, target)
            write_sealed(target + ".json", dataclasses.asdict(shard))
            earlier -= {shard.name, shard.name + ".json"}
            size += shard.num_bytes
            rows.append({"name": shard.name, "records": shard.records, "sha256": shard.sha256})
        entry["splits"][split] = rows
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=name, split=split, filetype_suffix="array_record"
        )
        split_infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[r["records"] for r in rows],
                num_bytes=size,
                filename_template=template,
            )
        )
    for stale in earlier:  # of an interrupted run with another number of shards
        os.remove(os.path.join(folder, stale))
    _write_tfds_metadata(root, name, kind, split_infos)
    return entry


def _link(path: str, target: str) -> None:
    """Gives a file a second name; the first stays, so that an interrupted publish is repeatable."""
    if os.path.exists(target) and os.path.samefile(path, target):
        return  # renaming one name of a file onto another would do nothing and leave both
    temporary = temporary_name(target)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, target)


def check_present(root: str, datasets: Mapping[str, Any]) -> None:
    """Checks, by names alone, that the shards of a manifest's `datasets` still exist.

    Datasets of a temporary kind may have been deleted as a whole.

    Raises:
      CorpusError: names the first missing shard.
    """
    for name, entry in datasets.items():
        folder = builder_dir(root, name)
        if entry["kind"] in TEMPORARY and not os.path.isdir(folder):
            continue
        for row in (row for rows in entry["splits"].values() for row in rows):
            path = os.path.join(folder, row["name"])
            if not os.path.exists(path):
                raise CorpusError(
                    f"{path} is missing, though its manifest lists it: restore it, or delete"
                    " the manifest and run the step that writes it again"
                )


def _write_tfds_metadata(root: str, name: str, kind: str, splits: list[Any]) -> None:
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name,
        version=tfds.core.Version(VERSION),
        data_dir=builder_dir(root, name),
        module_name=_WRITER,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=DESCRIPTIONS[kind],
        features=FEATURES[kind],
        citation=CITATION,
        homepage=HOMEPAGE,
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(builder_dir(root, name))


def dataset_shards(root: str, name: str, split: str | None = None) -> list[str]:
    """Paths of a published dataset's shards, sorted; all splits when `split` is None.

    Raises:
      CorpusError: there are none, or not as many as their names tell.
    """
    folder = builder_dir(root, name)
    pattern = re.compile(re.escape(name) + r"-(.+)\.array_record-(\d{5})-of-(\d{5})")
    found: dict[tuple[str, int], set[int]] = {}  # (split, number of shards) -> those there
    for match in filter(None, map(pattern.fullmatch, _names(folder))):
        if split in (None, match[1]):
            found.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    if not found:
        raise CorpusError(f"no shards {name}-{split or '*'} in {folder}: run data_prep first")
    for (of, count), there in found.items():
        if missing := sorted(set(range(count)) - there):
            path = os.path.join(folder, shard_name(name, of, missing[0], count))
            raise CorpusError(f"{path} is missing: {RESTORE}")
    if len(found) != len({of for of, _ in found}):
        counts = sorted({count for _, count in found})
        raise CorpusError(f"{folder} holds shards of {counts} parts: delete it and {RESTORE}")
    return sorted(
        os.path.join(folder, shard_name(name, of, index, count))
        for (of, count), there in found.items()
        for index in there
    )


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []
