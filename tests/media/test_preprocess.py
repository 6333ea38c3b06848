"""Settings of the student's view: kept as text, told apart, refused where they make no sense."""

import numpy as np
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
    with pytest.raises(ValueError, match="squash, crops, fit, not 'stretch'"):
        Preprocess(view="stretch")


def test_fitted_shapes_are_the_nearest_of_five_whatever_the_file():
    """Nearest in log aspect, found here by exhaustion over exact fractions of 32."""
    pre = Preprocess(view="fit", image_size=384)
    assert pre.fit_shapes() == ((384, 384), (384, 512), (384, 672), (512, 384), (672, 384))
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(16), np.log(8000), (50, 2))).astype(int)
    chosen = {pre.fit_shape(height, width) for height, width in sizes}
    assert 2 < len(chosen) <= 5
    for height, width in sizes.tolist():
        ratios = {
            shape: max(
                shape[1] * height / (shape[0] * width), shape[0] * width / (shape[1] * height)
            )
            for shape in pre.fit_shapes()
        }
        found = pre.fit_shape(height, width)
        assert ratios[found] == min(ratios.values())
        assert min(found) == 384 and max(found) % 32 == 0
        assert pre.fit_shape(width, height) == found[::-1]  # turned, a frame is seen alike


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((240, 320), (384, 512)),
        ((1080, 1920), (384, 672)),
        ((1920, 1080), (672, 384)),
        ((500, 500), (384, 384)),
        ((10, 4000), (384, 672)),
    ],
)
def test_common_sizes_keep_their_aspect_and_odd_ones_are_squeezed(size, shape):
    assert Preprocess(view="fit", image_size=384).fit_shape(*size) == shape


def test_a_fitted_side_is_one_that_a_tower_halves_five_times():
    with pytest.raises(ValueError, match="multiple of 32"):
        Preprocess(view="fit", image_size=400)
    assert Preprocess(view="fit", image_size=64).fit_shapes()[1:3] == ((64, 96), (64, 128))
