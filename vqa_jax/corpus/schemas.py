"""Records as they are stored: features, versions, bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from vqa_jax.corpus import clip_coding
from vqa_jax.pairs.levels import LEVELS

VERSION = "1.0.0"


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
            "preprocess": _F.Text(),  # JSON of preprocess.Preprocess
            "frames": _array((None, None, None, 3), np.uint8),  # [F, H, W, 3] RGB
            "missing": _F.Text(),  # of the source's file, as "102 of 524 frames"
        }
    ),
    "vqa_tokens": _F.FeaturesDict(
        {  # the video's record without its pixels
            "video_id": _F.Text(),
            "source_id": _F.Text(),
            "path": _F.Text(),
            "num_frames": _F.Scalar(np.int64),
            "simulator": _F.Text(),
            "level": _F.Scalar(np.int32),
            "preprocess": _F.Text(),
            "tower": _F.Text(),  # fingerprint of the frozen tower's weights
            "frames": _array((None, None, None), np.float16),  # [F, P, W], its tokens
        }
    ),
    "vqa_clips": _F.FeaturesDict(
        {  # `serialize` takes and `deserialize` gives "clips", uint8 RGB [M, K, H, W, 3]
            "video_id": _F.Text(),
            "order": _array((None, None), np.int32),  # as of clip_coding.encode
            "residuals": _array((None, 3, None, None), np.uint8),
        }
    ),
    "vqa_views": _F.FeaturesDict(
        {  # pictures as of `view_coding`, which decodes them
            "video_id": _F.Text(),
            "view": _F.Text(),  # its name in teachers.looks
            "order": _array((None,), np.int32),
            "shape": _array((None,), np.int32),
            "sizes": _array((None,), np.int32),
            "coded": _array((None,), np.uint8),
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


# Fields with a text that most records do not have: where it is empty it is not stored. What
# `deserialize` takes for empty is None to TFDS's own readers. Earlier versions stored none.
SPARSE = {"missing"}


DESCRIPTIONS = {
    "vqa_videos": (
        "Key frames (or near-native crops) of video segments, undistorted and at every severity of"
        " distortion simulators, for learning quality by comparison. `parameter` and `preprocess`"
        " are JSON; `effective` is false where a level looks like the one before it, or acts on"
        " what moves and nothing does; `missing` is there if the source's file is cut off."
    ),
    "vqa_clips": "Temporary motion clips; may be deleted once motion features exist.",
    "vqa_views": "What a neural teacher looks at, losslessly; may be deleted once it has scored.",
    "vqa_tokens": "What a frozen tower makes of the videos' key frames.",
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


_TEXTS = ("pair_id", "first_id", "second_id", "label_source")  # of a pair
_WHOLES = ("label", "iteration")
_NUMBERS = FEATURES["vqa_pairs"].keys() - {*_TEXTS, *_WHOLES, "level_probs"}


def serialize(kind: str, example: Mapping[str, Any]) -> bytes:
    """Encodes one record of `kind` to bytes that depend on its content alone."""
    features = FEATURES[kind]
    if kind == "vqa_clips":
        order, residuals = clip_coding.encode(example["clips"])
        return serialize_clips(example["video_id"], order, residuals.shape, [residuals.tobytes()])
    if kind == "vqa_tokens":
        example = {name: example[name] for name in features}
    sparse = SPARSE & features.keys()
    encoded = features.encode_example({**dict.fromkeys(sparse, ""), **example})
    proto = features._example_serializer.get_tf_example(encoded)
    for name in sparse:
        if not encoded[name]:
            del proto.features.feature[name]
    return proto.SerializeToString(deterministic=True)


def serialize_clips(
    video_id: str, order: np.ndarray, shape: Sequence[int], residuals: Iterable[bytes]
) -> bytes:
    """As `serialize` of clips that are coded already, without TFDS's copies of so large a record.

    Args:
      video_id: of the video.
      order: int32 [M, K], as of `clip_coding.encode`.
      shape: of the residuals [U, 3, H, W].
      residuals: their bytes, in pieces that are not held here.
    """
    num_bytes = math.prod(shape)
    before = b"".join(  # by name, as deterministic bytes are
        _entry(name, kind, len(value)) + value
        for name, kind, value in (
            ("order/shape", _INTS, _varints(order.shape)),
            ("order/value", _BYTES, order.astype("<i4").tobytes()),
            ("residuals/shape", _INTS, _varints(shape)),
        )
    )
    before += _entry("residuals/value", _BYTES, num_bytes)
    after = _entry("video_id", _BYTES, len(video_id.encode())) + video_id.encode()
    record = io.BytesIO()
    record.write(_field(1, before, num_bytes + len(after)))
    for piece in residuals:
        record.write(piece)
    record.write(after)
    return record.getvalue()


# Numbers of fields of Protocol Buffers: of a map's entry, and of the lists in a Feature.
_KEY, _VALUE = 1, 2
_BYTES, _INTS = 1, 3


def _entry(name: str, kind: int, length: int) -> bytes:
    """An entry of Features up to its value, whose `length` bytes follow."""
    value = _field(_VALUE, _field(kind, _field(1, b"", length), length), length)
    return _field(1, _field(_KEY, name.encode(), 0) + value, length)


def _field(number: int, start: bytes, length: int) -> bytes:
    """A field of variable length: its head, `start`, and `length` bytes that follow."""
    return bytes([number << 3 | 2]) + _varints([len(start) + length]) + start


def _varints(numbers: Iterable[int]) -> bytes:
    coded = bytearray()
    for number in numbers:
        while number > 127:
            coded.append(number & 127 | 128)
            number >>= 7
        coded.append(number)
    return bytes(coded)


def deserialize(kind: str, data: bytes) -> dict[str, Any]:
    """Decodes one record of `kind`; text comes back as str."""
    if kind == "vqa_pairs":
        return _pair(data)
    example = FEATURES[kind].deserialize_example_np(data)
    if kind == "vqa_clips":
        clips = clip_coding.decode(example.pop("order"), example.pop("residuals"))
        example["clips"] = clips
    for name in SPARSE & example.keys():
        example[name] = example[name] or ""
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in example.items()}


def _pair(data: bytes) -> dict[str, Any]:
    """`deserialize` of a pair, without TFDS's general decoder.

    That takes ten times as long for so small a record: minutes for 500,000, at every start.
    """
    feature = tf_example_pb2.Example.FromString(data).features.feature
    found: dict[str, Any] = {name: feature[name].bytes_list.value[0].decode() for name in _TEXTS}
    found |= {name: feature[name].int64_list.value[0] for name in _WHOLES}
    found |= {name: feature[name].float_list.value[0] for name in _NUMBERS}
    found["level_probs"] = np.array(feature["level_probs"].float_list.value, np.float32)
    return found
