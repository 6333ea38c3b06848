"""The teachers' page: label precision of real scores, odd teachers, curves, and text."""

import json
import re

import numpy as np
import pytest

from tests.fixtures.made_pages import teachers_of
from tests.fixtures.page_reader import EVIL, inert
from vqa_jax.cli import main
from vqa_jax.report import run as report
from vqa_jax.report import teachers


def test_precision_of_real_teachers_is_on_the_page(shared, tmp_path, capfd):
    tables = [str(shared / "benchmarks" / "dover" / f"{n}.csv") for n in ("KoNViD-1k", "LIVE-VQC")]
    assert main.main(["teachers", "agree", "--scores", *tables, "--out", str(tmp_path)]) == 0
    said = capfd.readouterr().out
    page = (tmp_path / teachers.PAGE).read_text()
    published = {"KoNViD-1k": (92.5, 76.6, 60.1), "LIVE-VQC": (89.3, 70.7, 56.9)}
    for name, wanted in published.items():
        row = re.search(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', page, re.DOTALL)[1]
        shown = [float(x) for x in re.findall(r">([\d.]+)%<small>", row)]
        assert shown == pytest.approx(wanted, abs=0.5)
        assert f"{shown[0]}%" in said
    assert page.count("<img") == 4 and 'src="http' not in page  # two logistics a set
    # The report of a run has the same section.
    report.build_report(str(tmp_path))
    assert "Label precision by level" in (tmp_path / report.REPORT).read_text()
    assert len(json.loads((tmp_path / teachers.FACTS).read_text())["sets"]) == 2


def test_odd_and_lower_teachers_without_people(tmp_path, capfd):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    columns = [truth, -truth, truth, rng.normal(size=200)]
    columns = [c + rng.normal(0, 0.2, 200) for c in columns]
    rows = [f"<b>{k}.mp4,{','.join(f'{c[k]:.6f}' for c in columns)}" for k in range(200)]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["video,a,b,c,d", *rows]))
    command = ["teachers", "agree", "--scores", str(table), "--out", str(tmp_path / "out")]
    assert main.main([*command, "--lower", "b", "--unite", "rank"]) == 0
    said = capfd.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if "ODD" in line] == ["d"]
    page = (tmp_path / "out" / teachers.PAGE).read_text()
    assert "No human scores" in page and "without d" in page
    assert "&lt;b&gt;" in page and "<b>1" not in page
    assert main.main([*command, "--lower", "z"]) == 1
    assert "'z'" in capfd.readouterr().err


def test_names_of_teachers_sets_and_videos_are_text(tmp_path):
    with open(teachers_of(tmp_path), encoding="utf-8") as f:
        parsed = inert(f.read())
    assert parsed.text.count(EVIL) > 20
    assert f"united score of 0 {EVIL}" in parsed.values
    assert parsed.text.count("odd: disagrees") == 1
