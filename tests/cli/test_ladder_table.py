"""What `ladder` prints, and its rows."""

from tests.fixtures.made_pages import made_ladder
from tests.fixtures.page_reader import EVIL
from vqa_jax.cli import ladder_table


def test_rungs_come_from_the_cheapest_on_and_failures_last():
    found = made_ladder()
    text = ladder_table.render(found)
    lines = text.splitlines()
    assert lines[1].split() == [
        "300",
        "-1.20",
        "±",
        "0.40",
        "-1.50",
        "30.00",
        "0.9000",
        "50.0",
        "x264",
        "48",
    ]
    assert lines[3].endswith("x264 32  (knee)") and lines[3].split()[7] == "-"
    assert lines[9].split()[:3] == ["-", "-", "-"] and EVIL not in text  # steers no terminal
    assert "neighbours in order: 1 of 3, 1 ties" in text
    assert "bits at equal quality against x264: svtav1" in text and "-40.0%" in text
    assert "quality with psnr: 0.987" in text and "quality with vmaf" not in text
    assert "equal vmaf" not in text


def test_rows_have_a_cell_for_every_column():
    found = made_ladder()
    columns, rows = ladder_table.columns(found), ladder_table.rows(found)
    assert columns[-2:] == ["vmaf_percentile_5", "error"] and len(rows) == 9
    assert all(set(row) <= set(columns) for row in rows)
    assert [row["knee"] for row in rows].index(True) == 2
    assert rows[2].get("vmaf") is None and rows[8]["error"] == EVIL and rows[0]["crf"] is None
