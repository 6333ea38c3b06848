"""Record schemas and shards: what is stored, how it is written once, verified and read by key.

Three kinds of record (DESIGN, "small records that change, large ones that do not"): a *video*
holds the frames a student looks at, a *motion* record its motion features, a *pair* names two
videos and carries the label. Clips are temporary input of the motion job. Schemas are TFDS
features, so that `tfds.builder_from_directory` reads the shards; they are written here because
shards must be addressed by key hash, appear under their name only when complete, and be hashed.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source, array_record_module

from vqa_jax import clip_coding
from vqa_jax.files import (
    CorpusError,
    commit,
    file_sha256,
    read_json,
    remove_temporary,
    temporary_name,
    write_json,
)
from vqa_jax.levels import LEVELS

VERSION = "1.0.0"
# Files of a corpus folder beside its datasets.
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.csv"
_SHARD_OPTIONS = "group_size:1,zstd:1"  # one record a chunk: constant-time random reads

_F = tfds.features


def _array(shape: tuple[int | None, ...], dtype: Any) -> _F.Tensor:
    # BYTES is 20 times faster than TFDS's default value lists.
    return _F.Tensor(shape=shape, dtype=dtype, encoding=_F.Encoding.BYTES)


FEATURES: dict[str, _F.FeaturesDict] = {
    "vqa_videos": _F.FeaturesDict(
        {
            "video_id": _F.Text(),
            "source_id": _F.Text(),
            "path": _F.Text(),
            "segment": _F.Scalar(np.int32),
            "start_frame": _F.Scalar(np.int64),
            "num_frames": _F.Scalar(np.int64),
            "fps": _F.Scalar(np.float32),
            "width": _F.Scalar(np.int32),
            "height": _F.Scalar(np.int32),
            "simulator": _F.Text(),  # "source" for the undistorted segment
            "level": _F.Scalar(np.int32),  # 0 is the source, higher is worse
            "effective": _F.Scalar(
                np.bool_
            ),  # differs, as the student sees it, from the level before
            "parameter": _F.Text(),  # JSON of the simulator's parameters, effective values included
            "preprocess": _F.Text(),  # JSON of frames.Preprocess
            "frames": _array((None, None, None, 3), np.uint8),  # [F, H, W, 3] RGB
        }
    ),
    "vqa_clips": _F.FeaturesDict(
        {  # `serialize` takes and `deserialize` gives "clips", uint8 RGB [M, K, H, W, 3]
            "video_id": _F.Text(),
            "order": _array((None, None), np.int32),  # as of clip_coding.encode
            "residuals": _array((None, 3, None, None), np.uint8),
        }
    ),
    "vqa_motion": _F.FeaturesDict(
        {
            "video_id": _F.Text(),
            "extractor": _F.Text(),  # fingerprint of the weights and clip geometry
            "features": _array((None, None), np.float32),  # [M, D]
        }
    ),
    "vqa_pairs": _F.FeaturesDict(
        {
            "pair_id": _F.Text(),
            "first_id": _F.Text(),
            "second_id": _F.Text(),
            "label": _F.ClassLabel(names=list(LEVELS)),
            "level_probs": _F.Tensor(shape=(len(LEVELS),), dtype=np.float32),
            "label_source": _F.Text(),  # "simulator:<name>", "human:<set>", "teachers", "student"
            "margin": _F.Scalar(np.float32),
            "normalized_margin": _F.Scalar(np.float32),  # margin / s_D, 0 without one
            "first_mean": _F.Scalar(np.float32),
            "first_std": _F.Scalar(np.float32),
            "second_mean": _F.Scalar(np.float32),
            "second_std": _F.Scalar(np.float32),
            "iteration": _F.Scalar(np.int32),
        }
    ),
}

DESCRIPTIONS = {
    "vqa_videos": (
        "Key frames (or near-native crops) of video segments, undistorted and at every severity of"
        " distortion simulators, for learning quality by comparison. `parameter` and `preprocess`"
        " are JSON; `effective` is false where a level looks like the one before it."
    ),
    "vqa_clips": "Temporary motion clips; may be deleted once motion features exist.",
    "vqa_motion": "Motion features of the videos, keyed by video id and extractor fingerprint.",
    "vqa_pairs": (
        "Ordered pairs of `vqa_videos` with the level of the second video against the first: by a"
        " simulator's severities, by the votes of teachers, or by a student (`label_source`)."
        " `margin` is the second's mean score minus the first's."
    ),
}
HOMEPAGE = "https://arxiv.org/abs/2505.03631"
CITATION = """@article{cao2025breaking,
  title={Breaking Annotation Barriers: Generalized Video Quality Assessment via Ranking-based
    Self-Supervision},
  author={Cao, Linhan and Sun, Wei and Zhang, Kaiwei and Peng, Yicong and Zhai, Guangtao and
    Min, Xiongkuo},
  journal={arXiv preprint arXiv:2505.03631},
  year={2025}
}"""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One finished shard: file name, number of records, SHA-256 and number of its bytes, ids."""

    name: str
    records: int
    sha256: str
    num_bytes: int
    ids: tuple[str, ...]  # in stored order


def serialize(kind: str, example: Mapping[str, Any]) -> bytes:
    """Encodes one record of `kind` to bytes that depend on its content alone."""
    features = FEATURES[kind]
    if kind == "vqa_clips":
        order, residuals = clip_coding.encode(example["clips"])
        example = {"video_id": example["video_id"], "order": order, "residuals": residuals}
    encoded = features.encode_example(dict(example))
    proto = features._example_serializer.get_tf_example(encoded)
    return proto.SerializeToString(deterministic=True)


def deserialize(kind: str, data: bytes) -> dict[str, Any]:
    """Decodes one record of `kind`; text comes back as str."""
    example = FEATURES[kind].deserialize_example_np(data)
    if kind == "vqa_clips":
        clips = clip_coding.decode(example.pop("order"), example.pop("residuals"))
        example["clips"] = clips
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in example.items()}


class ShardWriter:
    """Writes one shard under a temporary name; `finish` hashes, renames and returns it.

    Used as a context manager: an exception inside leaves no file under the final name.
    """

    def __init__(self, path: str, kind: str):
        self.path, self.kind = path, kind
        self._temporary = temporary_name(path)
        self._ids: list[str] = []
        self._writer = array_record_module.ArrayRecordWriter(self._temporary, _SHARD_OPTIONS)

    def write(self, example: Mapping[str, Any]) -> None:
        """Appends one record; its key is `video_id` or `pair_id`."""
        key = str(example["pair_id" if self.kind == "vqa_pairs" else "video_id"])
        self.write_serialized(key, serialize(self.kind, example))

    def write_serialized(self, key: str, data: bytes) -> None:
        """Appends one record by its key and its bytes, which are those of `serialize`."""
        self._writer.write(data)
        self._ids.append(key)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        self._writer.close()
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
        write_json(self.path + ".json", dataclasses.asdict(shard))
        return shard


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
    fields = read_json(path + ".json")
    size = os.path.getsize(path)
    if "num_bytes" not in fields and file_sha256(path) != fields["sha256"]:
        return None
    shard = Shard(**{"num_bytes": size, **fields, "ids": tuple(fields["ids"])})
    return shard if size == shard.num_bytes else None


def finished_shard(path: str) -> Shard | None:
    """The shard at `path` if it is complete and its bytes match its sidecar, else None.

    For work that goes on after a kill or a crash of the machine; it reads the whole file.
    """
    shard = complete_shard(path)
    return shard if shard and file_sha256(path) == shard.sha256 else None


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
    earlier = set(os.listdir(folder))
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
            write_json(target + ".json", dataclasses.asdict(shard))
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

    Motion clips may have been deleted as a whole; they are temporary.

    Raises:
      CorpusError: names the first missing shard.
    """
    for name, entry in datasets.items():
        folder = builder_dir(root, name)
        if entry["kind"] == "vqa_clips" and not os.path.isdir(folder):
            continue
        for rows in entry["splits"].values():
            for row in rows:
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
        module_name=__name__,
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
    """Paths of a published dataset's shards, sorted; all splits when `split` is None."""
    folder = builder_dir(root, name)
    prefix = f"{name}-{split}." if split else f"{name}-"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, n) for n in names if n.startswith(prefix) and n[-5:].isdigit()]
    if not paths:
        raise CorpusError(f"no shards {prefix}* in {folder}: run data_prep first")
    return paths


class RecordStore:
    """Random access by key to all records of a published dataset (any thread)."""

    def __init__(self, root: str, name: str, kind: str | None = None, split: str | None = None):
        self.kind = kind or name
        paths = dataset_shards(root, name, split)
        self.ids: list[str] = []
        self._starts: list[int] = []
        for path in paths:
            self._starts.append(len(self.ids))
            self.ids.extend(read_json(path + ".json")["ids"])
        self._position = {key: i for i, key in enumerate(self.ids)}
        try:
            self._source = array_record_data_source.ArrayRecordDataSource(paths)
        except RuntimeError as error:
            raise CorpusError(
                f"a shard in {builder_dir(root, name)} is damaged ({error}):"
                " `python -m data_prep verify` names it"
            ) from error
        if len(self._source) != len(self.ids):
            raise CorpusError(
                f"{builder_dir(root, name)}: sidecars and shards disagree; rerun prep"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, key: str) -> bool:
        return key in self._position

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The record of `key`; KeyError if absent."""
        return deserialize(self.kind, self._source[self._position[key]])

    def place(self, key: str) -> tuple[int, int]:
        """(number of the shard, offset in it) of `key`; KeyError if absent."""
        position = self._position[key]
        shard = bisect.bisect_right(self._starts, position) - 1
        return shard, position - self._starts[shard]

    def records(self) -> Iterator[dict[str, Any]]:
        """All records in stored order."""
        for i in range(len(self.ids)):
            yield deserialize(self.kind, self._source[i])


def shard_records(path: str, kind: str) -> Iterator[dict[str, Any]]:
    """All records of one shard in stored order, one in memory at a time."""
    source = array_record_data_source.ArrayRecordDataSource([path])
    for i in range(len(source)):
        yield deserialize(kind, source[i])


def shard_record(path: str, kind: str, number: int) -> dict[str, Any]:
    """One record of a shard, by its place in it."""
    return deserialize(kind, array_record_data_source.ArrayRecordDataSource([path])[number])
