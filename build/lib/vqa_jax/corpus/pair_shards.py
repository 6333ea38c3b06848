"""Pair datasets: labelled pairs of one iteration -> shards and a manifest beside the videos."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow_datasets.proto import tf_example_pb2

from vqa_jax.corpus import shards
from vqa_jax.jobs import files
from vqa_jax.pairs import levels
from vqa_jax.pairs.table import Pair

_NUMBERS = (
    "margin",
    "normalized_margin",
    "first_mean",
    "first_std",
    "second_mean",
    "second_std",
)
_OWN = r".+-\d{5}(?:\.json)?"  # files of the working folder
_ONE_HOT = tuple(tuple(levels.level_probs(label).tolist()) for label in levels.LEVELS)


def dataset_name(iteration: int) -> str:
    """Name of an iteration's pair dataset."""
    return f"vqa_pairs_{iteration}"


def manifest_path(root: str, iteration: int) -> str:
    """Manifest of an iteration's pairs."""
    return os.path.join(root, f"pairs_{iteration}.json")


def pair_id(pair: Pair) -> str:
    """Key of a pair: its videos in order and where its label comes from."""
    return f"{pair.first_id}|{pair.second_id}|{pair.label_source}"


def _work(root: str, iteration: int) -> str:
    return os.path.join(root, f"work_{dataset_name(iteration)}")


def serialize(pair: Pair, iteration: int) -> bytes:
    """One pair record: the bytes of `schemas.serialize`, built without TFDS's general encoder.

    That takes seven times as long for so small a record, minutes for 700,000.
    """
    example = tf_example_pb2.Example()
    feature = example.features.feature
    for name, text in (
        ("pair_id", pair_id(pair)),
        ("first_id", pair.first_id),
        ("second_id", pair.second_id),
        ("label_source", pair.label_source),
    ):
        feature[name].bytes_list.value.append(text.encode())
    label = levels.level_index(pair.label)
    for name, whole in (("label", label), ("iteration", iteration)):
        feature[name].int64_list.value.append(whole)
    for name in _NUMBERS:
        feature[name].float_list.value.append(getattr(pair, name))
    probs = pair.level_probs if pair.level_probs is not None else _ONE_HOT[label]
    feature["level_probs"].float_list.value.extend(probs)
    return example.SerializeToString(deterministic=True)


def write(
    root: str,
    iteration: int,
    splits: Mapping[str, Sequence[Pair]],
    num_shards: int,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes one iteration's pairs, sharded by key hash; the manifest comes last.

    Args:
      root: corpus folder.
      iteration: from 1.
      splits: split -> pairs; an empty split is left out.
      num_shards: shards of a split (empty ones do not exist).
      identity: what the pairs follow from; kept in the manifest.
      facts: what else the manifest tells, such as the teachers' fitted constants.

    Returns:
      The manifest: {"identity", "counts", "labels", "dataset"} and `facts`.
    """
    name = dataset_name(iteration)
    work = _work(root, iteration)
    files.remove_own(work, _OWN)
    os.makedirs(work, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(manifest_path(root, iteration))  # it would vouch for what is now replaced
    published: dict[str, list[str]] = {}
    for split, pairs in splits.items():
        buckets: dict[int, list[Pair]] = {}
        for pair in sorted(pairs, key=pair_id):
            buckets.setdefault(files.key_hash(pair_id(pair)) % num_shards, []).append(pair)
        for bucket, members in sorted(buckets.items()):
            path = os.path.join(work, f"{split}-{bucket:05d}")
            with shards.ShardWriter(path, "vqa_pairs") as writer:
                for pair in members:
                    writer.write_serialized(pair_id(pair), serialize(pair, iteration))
            writer.finish()
            published.setdefault(split, []).append(path)
    entry = shards.publish(root, name, "vqa_pairs", published)
    labels = Counter(pair.label for pairs in splits.values() for pair in pairs)
    manifest = {
        **(facts or {}),
        "identity": dict(identity),
        "counts": {split: len(pairs) for split, pairs in splits.items()},
        "labels": {x: labels[x] for x in levels.LEVELS},
        "dataset": {name: entry},
    }
    files.write_sealed(manifest_path(root, iteration), manifest)
    files.remove_own(work, _OWN)
    return manifest


def finished(root: str, iteration: int, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest if this iteration's pairs are written and follow from `identity`."""
    path = manifest_path(root, iteration)
    if not os.path.exists(path):
        return None
    manifest = files.read_json(path, {"identity": dict, "dataset": shards.DATASETS})
    if manifest["identity"] != dict(identity):
        raise files.CorpusError(
            f"{path} was made with other settings or models: delete it to make the pairs again"
        )
    shards.check_present(root, manifest["dataset"])
    files.remove_own(_work(root, iteration), _OWN)  # of a job killed at its very end
    return manifest
