"""Photographs for scenes: which are usable, and a split that further ones do not change."""

import cv2
import numpy as np

from data_prep.scenes import photographs


def test_split_of_built_in_photographs_ignores_further_ones(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(9):
        coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (480, 400), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
        if index == 0:  # the same picture in another size is not a second one
            cv2.imwrite(str(tmp_path / "copy.jpg"), cv2.resize(picture, (360, 300)))
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    alone = {p.id: p.split for p in photographs.find_photographs()}
    both = {p.id: p.split for p in photographs.find_photographs(str(tmp_path))}
    assert alone.items() <= both.items()
    assert len(both) == len(alone) + 9
    for split in (alone, both):
        held_out = sum(value == "heldout" for value in split.values())
        assert 3 <= held_out <= len(split) / 3
