"""Settings of the student's view: kept as text, told apart, refused where they make no sense."""

import pytest

from vqa_jax.media.preprocess import Preprocess

CROPS = Preprocess(view="crops", image_size=16, tile_size=20, num_tiles=7)
SQUASH = Preprocess(image_size=24, motion_size=16)


def test_preprocess_json_and_fingerprint():
    assert Preprocess.from_json(CROPS.to_json()) == CROPS
    assert CROPS.fingerprint() == Preprocess.from_json(CROPS.to_json()).fingerprint()
    assert len({CROPS.fingerprint(), SQUASH.fingerprint(), Preprocess().fingerprint()}) == 3
    with pytest.raises(ValueError, match="no_such_field"):
        Preprocess.from_json('{"no_such_field": 1}')
    with pytest.raises(ValueError, match="tile_size"):
        Preprocess(view="crops", image_size=32, tile_size=16, num_tiles=4)
    with pytest.raises(ValueError, match="'squash' or 'crops'"):
        Preprocess(view="stretch")
