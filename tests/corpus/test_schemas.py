"""Records: content in equals content out, and types that do not fit."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.fixtures.tiny_records import EXAMPLES, pair, video
from vqa_jax.corpus import schemas
from vqa_jax.pairs.levels import LEVELS


@pytest.mark.parametrize("kind", schemas.FEATURES)
def test_what_goes_in_comes_out(kind):
    example = EXAMPLES[kind]
    data = schemas.serialize(kind, example)
    assert data == schemas.serialize(kind, dict(reversed(example.items())))
    back = schemas.deserialize(kind, data)
    assert back.keys() == example.keys()
    for name, value in example.items():
        wanted = LEVELS.index(value) if name == "label" else value
        if isinstance(value, np.ndarray):
            assert back[name].dtype == value.dtype and back[name].shape == value.shape
            np.testing.assert_array_equal(back[name], value)
        elif isinstance(value, float):
            assert back[name] == np.float32(wanted)
        else:
            assert back[name] == wanted


def test_a_record_of_the_wrong_type_is_refused():
    with pytest.raises(Exception, match="uint8"):
        schemas.serialize("vqa_videos", video("v") | {"frames": np.zeros((1, 2, 2, 3), np.float32)})
    with pytest.raises(Exception, match="awful"):
        schemas.serialize("vqa_pairs", pair("p", "awful"))


def test_what_is_missing_of_a_source_is_stored_where_something_is():
    """Records without it are the bytes of earlier versions, by TFDS's own writer and reader."""
    example = video("v")
    told = example | {"missing": "102 of 524 frames"}
    fields = {k: v for k, v in schemas.FEATURES["vqa_videos"].items() if k != "missing"}
    earlier = tfds.features.FeaturesDict(fields)
    encoded = earlier.encode_example({k: v for k, v in example.items() if k != "missing"})
    wanted = earlier._example_serializer.get_tf_example(encoded)
    data = schemas.serialize("vqa_videos", example)
    assert data == wanted.SerializeToString(deterministic=True)
    assert data == schemas.serialize("vqa_videos", {k: example[k] for k in fields})
    assert schemas.deserialize("vqa_videos", data)["missing"] == ""
    assert schemas.FEATURES["vqa_videos"].deserialize_example_np(data)["missing"] is None
    cut = schemas.serialize("vqa_videos", told)
    assert schemas.deserialize("vqa_videos", cut)["missing"] == told["missing"]
    assert earlier.deserialize_example_np(cut)["video_id"] == b"v"


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 4), (9, 3, 48, 48)])
def test_clips_are_the_bytes_that_tfds_writes(shape):
    """Written piece by piece: sizes on either side of what one byte of a length can tell."""
    order = np.arange(6, dtype=np.int32).reshape(2, 3)
    residuals = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    features = schemas.FEATURES["vqa_clips"]
    encoded = features.encode_example({"video_id": "é", "order": order, "residuals": residuals})
    wanted = features._example_serializer.get_tf_example(encoded)
    pieces = (residual.tobytes() for residual in residuals)
    record = schemas.serialize_clips("é", order, shape, pieces)
    assert record == wanted.SerializeToString(deterministic=True)
