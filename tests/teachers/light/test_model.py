"""Files of light teachers: what is written is read, and what is damaged is told."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tests.fixtures import light_teachers as made
from vqa_jax.teachers.light import model


def test_what_is_saved_is_read(tmp_path):
    whole, folds = made.regression(0), [made.regression(k) for k in (1, 2)]
    model.save(str(tmp_path), made.card(), whole, folds)
    card_path, weights, fold_weights = model.paths(str(tmp_path), "light_colour")
    card = model.read_card(card_path)
    digests = card.weights_sha256, card.folds_sha256
    assert dataclasses.replace(card, weights_sha256="", folds_sha256="") == made.card()
    read = [
        model.read_regression(weights, digests[0]),
        *model.read_folds(fold_weights, 2, digests[1]),
    ]
    for a, b in zip([whole, *folds], read, strict=True):
        for name, tensor in a.tensors().items():
            np.testing.assert_array_equal(tensor, b.tensors()[name])
    told = model.told(made.card())
    assert "120 pictures of a set" in told and "0.812" in told and "0.50 indoors" in told


def test_a_flipped_bit_of_the_weights_is_noticed(tmp_path):
    model.save(str(tmp_path), made.card(), made.regression(0), [made.regression(1)])
    card_path, *both = model.paths(str(tmp_path), "light_colour")
    card = model.read_card(card_path)
    for path in both:
        with open(path, "r+b") as file:
            file.seek(-3, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-3, os.SEEK_END)
            file.write(bytes([byte ^ 1]))
    with pytest.raises(model.LightTeacherError, match=r"light_colour\.safetensors is damaged"):
        model.read_regression(both[0], card.weights_sha256)
    with pytest.raises(model.LightTeacherError, match=r"folds\.safetensors is damaged"):
        model.read_folds(both[1], 1, card.folds_sha256)


def test_damage_is_told_with_file_and_remedy(tmp_path):
    model.save(str(tmp_path), made.card(), made.regression(0), [])
    card_path, weights, fold_weights = model.paths(str(tmp_path), "light_colour")
    with pytest.raises(model.LightTeacherError, match="lacks 0/mean"):
        model.read_folds(fold_weights, 2)
    with pytest.raises(model.LightTeacherError, match="missing: fit it again"):
        model.read_regression(str(tmp_path / "other.safetensors"))
    (tmp_path / "light_colour.safetensors").write_bytes(b"no weights")
    with pytest.raises(model.LightTeacherError, match="damaged"):
        model.read_regression(weights)
    for change, why in (({"weights": np.zeros(2, np.float32)}, "shape"), (None, "not finite")):
        tensors = made.regression(0).tensors() | (change or {"gamma": np.float32(np.nan)})
        model._save(weights, tensors)
        with pytest.raises(model.LightTeacherError, match=why):
            model.read_regression(weights)
    raw = json.loads((tmp_path / "light_colour.json").read_text())
    raw["pictures"] = 5
    (tmp_path / "light_colour.json").write_text(json.dumps(raw))
    with pytest.raises(model.LightTeacherError, match="not as it was written"):
        model.read_card(card_path)
