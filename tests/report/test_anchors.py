"""The page of the anchors' sensitivity."""

import json

from tests.fixtures.made_pages import anchors_of
from tests.fixtures.page_reader import EVIL, inert


def test_names_are_text_and_every_anchor_has_a_bar(tmp_path):
    with open(anchors_of(tmp_path), encoding="utf-8") as f:
        parsed = inert(f.read())
    facts = json.loads((tmp_path / "anchor_sensitivity.json").read_text(encoding="utf-8"))
    assert parsed.text.count(EVIL) == 2 * 5  # a bar and a row each
    shifts = [row["mean_shift"] for row in facts["anchors"]]
    lengths = [float(v[4:]) for v in parsed.values if v.startswith("--v:")]
    assert lengths == [round(shift / max(shifts), 4) for shift in shifts]
    assert all(parsed.text.count(f"{shift:.2f}") >= 2 for shift in shifts)
