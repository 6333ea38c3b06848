"""A frozen tower at work: whole videos of any shape, few programs, nothing mixed up."""

import numpy as np

from tests.fixtures import cell_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.frozen_tower import FRAMES_AT_ONCE, FrozenTower

PARAMS = {"vision": {"network": {"gain": np.float32(1 / 255)}, "mean": np.zeros(5)}}


def test_videos_of_several_shapes_get_their_own_tokens_and_a_shape_is_one_program():
    rng = np.random.default_rng(0)
    shapes = [(3, 8, 8), (1, 8, 12), (7, 8, 8), (2, 12, 8), (4, 8, 12)]
    videos = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    student = cell_student.MeanTower()
    tower = FrozenTower.of_student(student, PARAMS)
    found = tower(iter(videos))
    for video, tokens in zip(videos, found, strict=True):
        assert tokens.shape == (len(video), 2, 5) and tokens.dtype == np.float16
        means = video.mean((1, 2)) / 255
        expected = np.stack([means, means / 2], 1)
        np.testing.assert_allclose(tokens[..., :3], expected, **TOLERANCES["stored_tokens"])
        assert not tokens[..., 3:].any()
    assert sorted(student.shapes) == sorted(
        (FRAMES_AT_ONCE, height, width, 3) for height, width in {shape[1:] for shape in shapes}
    )
    again = tower([videos[2]])
    np.testing.assert_array_equal(again[0], found[2])  # whatever the company
    assert len(student.shapes) == 3 and tower([]) == []
