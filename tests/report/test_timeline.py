"""The page of a timeline."""

from tests.fixtures.made_pages import EVIL_FILE, timeline_of
from tests.fixtures.page_reader import EVIL, inert
from vqa_jax.report import timeline
from vqa_jax.scoring.timeline import Moment


def test_names_and_reasons_are_text_and_the_rule_is_said(tmp_path):
    with open(timeline_of(tmp_path), encoding="utf-8") as f:
        parsed = inert(f.read())
    assert parsed.text.count(EVIL_FILE) == 2  # the browser's title and the heading
    assert parsed.text.count(EVIL) == 2  # the scale and the reason
    assert f"score of {EVIL_FILE} over time" in parsed.values
    assert "of the 12 small tiles" in parsed.text and "1:1" in parsed.text
    assert "1 passage from 0:39.0 on" in parsed.text
    assert sum(u.startswith("data:image/jpeg") for u in parsed.urls) == 6
    assert sum(u.startswith("data:image/svg") for u in parsed.urls) == 2  # wide and narrow


def test_clock():
    assert [timeline.clock(s) for s in (0, 6, 59.96, 3600.04, 7325.5)] == [
        "0:00.0",
        "0:06.0",
        "1:00.0",
        "1:00:00.0",
        "2:02:05.5",
    ]


def test_a_long_curve_keeps_its_lowest_moments():
    moments = [Moment(k, k + 1, 50.0) for k in range(1500)]
    moments[1234] = Moment(1234, 1235, 3.0)
    moments[7:12] = [Moment(k, k + 1, error="x") for k in range(7, 12)]
    drawn, size = timeline._lowest(moments)
    assert size == 3 and len(drawn) == 500
    assert moments[1234] in drawn and drawn[3].score is None  # 9 to 11: none has a score
