"""Plots as pictures in a page."""

import base64

from vqa_jax.report import plots


def test_plots_follow_the_dark_setting_and_repeat_exactly():
    series = [plots.Series([0, 1, 2], [3.0, 2.0, 1.0], 1, [0.1, 0.2, 0.3], markers=True)]
    uri = plots.lines(series, "level", whole_x=True)
    assert uri == plots.lines(series, "level", whole_x=True)
    kind, payload = uri.split(",")
    svg = base64.b64decode(payload).decode()
    assert kind == "data:image/svg+xml;base64"
    assert "prefers-color-scheme:dark" in svg and "var(--s1)" in svg and "var(--ink)" in svg
    assert "#a100" not in svg.lower().split("</style>")[1]


def test_a_narrow_drawing_is_narrow():
    def size(narrow):
        uri = plots.passages([0, 1], [2, 3], [1, 1], [(0, 2)], "seconds", "score", narrow)
        svg = base64.b64decode(uri.split(",")[1]).decode()
        return float(svg.split('width="')[1].split("pt")[0])

    assert size(True) < 320 < size(False)
