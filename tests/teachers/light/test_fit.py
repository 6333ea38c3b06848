"""`teachers fit` on a folder of small pictures whose scores follow from their light."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.fixtures import light_teachers as made
from vqa_jax.jobs.files import CorpusError
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.settings import DecodeLimits
from vqa_jax.teachers.light import features, fit, fitting, model, teacher

_PICTURES = 66
_ALONE = DecodeLimits(seconds=0, memory_mb=0)  # decoded here: no child processes to start


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A folder of pictures of two kinds, and their table of scores."""
    root = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    rows = []
    for k in range(_PICTURES):
        kind = ("indoors", "outdoors")[k % 2]
        light = rng.uniform(20, 200)
        pixels = rng.normal(light, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
        (root / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / kind / f"{k}.png")
        rows.append((f"{kind}/{k}.png", f"{light / 2 + rng.normal():.2f}"))
    (root / "indoors" / "broken.png").write_bytes(b"no picture")
    rows.append(("indoors/broken.png", "50"))
    with open(root / "scores.csv", "w", newline="") as text:
        csv.writer(text).writerows([("path", "mos"), *rows])
    return root


def _config(**changes):
    return fit.FitConfig(**{"families": (made.FAMILY,), "folds": 3, "limits": _ALONE} | changes)


def test_teachers_are_fitted_told_and_loaded(rated, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "VIEW", Preprocess(view="fit", image_size=32))
    monkeypatch.setattr(fit, "SHIPPED", fitting.Size(64, 24))
    scores, out = str(rated / "scores.csv"), str(tmp_path / "out")
    manifest = fit.fit(scores, str(rated), out, _config())
    assert (manifest["pictures"], manifest["left_out"]) == (_PICTURES, 1)
    found = teacher.load(model.paths(out, "light_colour")[0])
    assert found.card.cross_validated.pooled > 0.9
    assert {row.kind for row in found.card.left_out} == {"indoors", "outdoors"}
    assert all(row.srcc > 0.8 for row in found.card.left_out)
    with open(tmp_path / "out" / fit.LEFT_OUT) as text:
        (left,) = csv.DictReader(text)
    assert left["path"] == "indoors/broken.png" and left["reason"]
    # The table's votes are those of the regressions that did not see the picture.
    with open(tmp_path / "out" / fit.OUT_OF_FOLD) as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == _PICTURES and {row["fold"] for row in rows} == {"0", "1", "2"}
    for row in rows[:2]:
        picture = np.asarray(Image.open(rated / row["path"]))
        score = found.score_picture(picture, int(row["fold"]))
        assert score == pytest.approx(float(row["light_colour"]), abs=1e-3)
    # The same again is kept; other settings want another folder.
    assert fit.fit(scores, str(rated), out, _config()) == manifest
    with pytest.raises(CorpusError, match="another fit"):
        fit.fit(scores, str(rated), out, _config(seed=1))


def test_too_few_pictures_are_refused_with_the_reasons_in_a_file(rated, tmp_path):
    (tmp_path / "scores.csv").write_text("path,mos\nnowhere.png,1\nneither.png,2\n")
    with pytest.raises(model.LightTeacherError, match=r"0 pictures of 2 .*left_out.csv"):
        fit.fit(str(tmp_path / "scores.csv"), str(rated), str(tmp_path / "out"), _config())
    with pytest.raises(ValueError, match="no teacher sharp; known: lite0_all"):
        _config(families=("sharp",))
