"""The page of what a student sees, and its words."""

import dataclasses

from vqa_jax.report import explanation as page
from vqa_jax.scoring.explanation import Explanation, Flaw, Place

FOUND = Explanation(
    "clips/a<b>.mp4",
    (Flaw("gaussian_blur", 0.6, 3.4, 5), Flaw("haze", 0.1, 1.0, 5)),
    0.2,
    41.0,
    38.0,
    55.0,
    (Place(0, 0, 1, 0.5, 20.0), Place(0, 0.5, 1, 1, 60.0)),
    b"jpeg",
    1.5,
)


def test_the_likeliest_kind_is_told_in_words():
    assert "gaussian blur (60%), at about level 3.4 of 5" in page.level_of(FOUND)
    fine = dataclasses.replace(FOUND, undistorted=0.7)
    assert "none of the kinds" in page.level_of(fine)
    text = page.render(FOUND)
    assert "motion alone 55.00" in text and "none 20%, gaussian blur 60% (level 3.4)" in text
    assert "motion" not in page.render(dataclasses.replace(FOUND, motion=None))


def test_the_page_holds_all_of_it_and_says_what_it_is_not(tmp_path):
    whole = dataclasses.replace(FOUND, path="b.png", motion=None, places=(), heat=None)
    path = page.write([FOUND, whole], "a scale", str(tmp_path))
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "a&lt;b&gt;.mp4" in text and "clips/" not in text
    assert "lowest, 20.0" in text and "highest, 60.0" in text and "reads frames whole" in text
    assert "nearest" in text and "a scale" in text and text.count("data:image/jpeg") == 1
