"""Folds of rated pictures."""

import numpy as np
import pytest
from PIL import Image

from vqa_jax.jobs.files import CorpusError
from vqa_jax.teachers.light import folds


def _picture(seed):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
    return np.asarray(small.resize((96, 80), Image.Resampling.BICUBIC))


def test_near_copies_and_stated_contents_are_one_group_and_one_fold():
    pictures = [_picture(seed) for seed in range(12)]
    darker = (pictures[3] * 0.8).astype(np.uint8)
    smaller = np.asarray(Image.fromarray(pictures[3]).resize((48, 40)))
    hashes = np.stack([folds.thumbnail_hash(p) for p in [*pictures, darker, smaller]])
    group = folds.groups(hashes)
    assert group[12] == group[13] == group[3]
    assert len(set(group)) == 12
    shown = [""] * 14
    shown[0] = shown[13] = "beach"  # joins what was joined already
    group = folds.groups(hashes, shown)
    assert {group[k] for k in (0, 3, 12, 13)} == {0}
    assert len(set(group)) == 11
    kinds = ["day"] * 7 + ["night"] * 7
    fold = folds.folds(group, kinds, 3, seed=1)
    assert len({fold[k] for k in (0, 3, 12, 13)}) == 1
    assert set(fold) == {0, 1, 2}


def test_every_kind_is_spread_evenly_and_the_seed_deals():
    kinds = ["a"] * 20 + ["b"] * 10
    fold = folds.folds(np.arange(30), kinds, 5, seed=0)
    assert np.bincount(fold[:20]).tolist() == [4] * 5
    assert np.bincount(fold[20:]).tolist() == [2] * 5
    assert fold.tolist() == folds.folds(np.arange(30), kinds, 5, seed=0).tolist()
    assert fold.tolist() != folds.folds(np.arange(30), kinds, 5, seed=1).tolist()


def test_a_source_is_of_the_picture_whose_name_it_goes_on_from():
    table = folds.FoldTable({"camera/s_1.jpg": 0, "camera/s_10.jpg": 1, "b.png": 2})
    asked = ("s_1.jpg", "clips/s_10-pan.mkv", "x/s_10.zoom.2.mp4", "s_100.jpg", "b", "c.jpg")
    assert [table.of(path) for path in asked] == [0, 1, 1, None, 2, None]


def test_tables_that_do_not_tell_folds_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("path,mos\na.jpg,3\n")
    with pytest.raises(CorpusError, match="no table of `teachers fit`"):
        folds.read_folds(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text("path,fold\nx/a.jpg,0\ny/a.jpg,1\n")
    with pytest.raises(CorpusError, match="two pictures are called a"):
        folds.read_folds(str(tmp_path / "b.csv"))
