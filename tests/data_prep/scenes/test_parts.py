"""Parts of photographs: their own pixels, their sizes, what stays when more are made."""

import json

import cv2
import numpy as np
import pytest

from data_prep.scenes import parts, photographs


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """White noise, in which every place is told from every other: uint8 [90, 120, 3]."""
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def test_parts_are_the_pictures_own_pixels_of_all_sizes_and_half_are_mirrored(picture):
    shares, mirrored = [], 0
    for seed in range(200):
        part = parts.cut(picture, 0.7, np.random.default_rng(seed))
        found = []
        for turned in (part, part[:, ::-1]):
            x, y = cv2.minMaxLoc(cv2.matchTemplate(picture, turned, cv2.TM_SQDIFF))[2]
            found.append(np.array_equal(picture[y : y + len(part), x : x + part.shape[1]], turned))
        assert found.count(True) == 1
        mirrored += found[1]
        shares.append(np.divide(part.shape[:2], picture.shape[:2]))
    assert 70 <= mirrored <= 130
    assert np.min(shares) >= 0.69 and np.max(shares) <= 1
    np.testing.assert_allclose(np.mean(shares, 0), 0.85, atol=0.02)
    np.testing.assert_allclose(np.std(shares, 0), 0.3 / np.sqrt(12), atol=0.02)


def test_files_name_their_photograph_and_further_parts_leave_the_others_alone(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 256, (250, 260, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"P{index}.png"), noise)
    first = parts.make_parts(parts.PartConfig(str(folder)), str(tmp_path / "out"))
    names = [entry["file"] for entry in first["scenes"]]
    builtin = [p for p in photographs.builtin_photographs() if p.filmable]
    assert len(names) == len(builtin) + 2
    assert sum(name.startswith(("P0-", "P1-")) for name in names) == 2
    more = parts.make_parts(parts.PartConfig(str(folder), each=2), str(tmp_path / "out"))
    assert {e["sha256"] for e in first["scenes"]} < {e["sha256"] for e in more["scenes"]}
    told = json.loads((tmp_path / "out" / "scenes.json").read_text())
    assert told["scenes"] == more["scenes"]
    for entry in told["scenes"]:
        shape = cv2.imread(str(tmp_path / "out" / entry["file"])).shape
        assert shape == (entry["height"], entry["width"], 3)


@pytest.mark.parametrize("fields", [{"each": 0}, {"least": 0.0}, {"least": 1.1}])
def test_nonsense_is_refused(fields):
    with pytest.raises(parts.PartError, match="must be 1 or more"):
        parts.PartConfig(**fields)
