"""The page of a relabelling: its figures against counting the rows by hand, pictures, odd names."""

import os
import re

import numpy as np
import pytest
from pyarrow import parquet

from tests.fixtures.made_pages import relabelled, relabelling_of
from tests.fixtures.page_reader import EVIL, inert
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import files
from vqa_jax.report import relabelling


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return relabelled(tmp_path_factory.mktemp("page"))


def _read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def test_page_shows_the_rows_with_pictures_and_loads_nothing(data):
    facts = files.read_json(os.path.join(data, "relabel_2.json"))
    rows = parquet.read_table(os.path.join(data, "relabel_2", "pairs.parquet")).to_pylist()
    page = _read(relabelling.write(data, 2))
    wrong = [r for r in rows if r["kind"] == "misordered"]
    gmad = [r for r in rows if r["kind"] == "gmad"]
    couples = {(r["weak_model"], r["attacker"]) for r in gmad}
    assert len(couples) == 4  # two teachers, both roles
    shares = [sum((r["weak_model"], r["attacker"]) == c for r in gmad) for c in sorted(couples)]
    cards = page.count('class="pair"')
    assert cards == min(2, len(wrong)) + sum(min(2, n) for n in shares)
    assert page.count("data:image/jpeg") == 2 * cards
    assert 'src="http' not in page and "no picture" not in page
    cells = re.findall(r"<tr><th scope=\"row\">(noise|sharpness)</th><td>(\d+)</td><td>(\d+)", page)
    assert [int(n) for _, *counts in cells for n in counts] == shares
    share = 100 * facts["misordered"] / facts["simulator_pairs_tested"]
    assert f"misordered <b>{share:.1f}%</b>" in page
    # The most confident mistakes, and the simulator's word on them.
    sure = max(wrong, key=lambda r: abs(r["preference"] - 0.5))
    assert f"p = {sure['preference']:.3f}" in page
    assert f"The simulator says <b>{sure['label']}</b>, the student {sure['student_label']}" in page


def test_figures_are_those_of_the_rows(data):
    facts = files.read_json(os.path.join(data, "relabel_2.json"))
    rows = parquet.read_table(os.path.join(data, "relabel_2", "pairs.parquet")).to_pylist()
    gmad = [r for r in rows if r["kind"] == "gmad"]
    same = np.mean([r["old_label"] == r["student_label"] for r in gmad])
    assert facts["agreement"]["teachers"]["same"] == pytest.approx(same)
    entropy = np.mean([r["entropy"] for r in gmad])
    assert facts["entropy"]["gmad"] == pytest.approx(entropy)
    said = relabelling.text_table_of(facts)
    assert re.search(rf"answered as the old teachers would +{100 * same:.1f}%", said)
    assert re.search(rf"gMAD pairs +{100 * entropy / np.log(5):.0f}%", said)
    assert re.search(rf"distance 1 +{facts['hard']['distance']['1']['pairs']}", said)
    wrong = {k: v["wrong"] for k, v in facts["hard"]["distance"].items()}
    assert sum(wrong.values()) == wrong["1"] == facts["misordered"]


def test_labels_models_simulators_and_reasons_are_text(tmp_path):
    path = relabelling_of(tmp_path)
    parsed = inert(_read(path))
    looked = files.read_json(str(tmp_path / "data" / "relabel_2.json"))["pool_videos"]
    assert parsed.text.count(EVIL) > looked + 10  # each video's reason, and the cards
    assert f"The simulator says {EVIL}, the student {EVIL}." in parsed.text
    assert f"New label {EVIL}; the old teachers say {EVIL}." in parsed.text
    paths = read_video_table(str(tmp_path / "data")).column("path")
    assert any(path in parsed.text for path in paths)


def test_an_iteration_that_was_not_relabelled_is_named(data):
    with pytest.raises(files.CorpusError, match=r"relabel_3\.json"):
        relabelling.write(data, 3)


def test_facts_of_an_older_version_are_dashes():
    table = relabelling.facts_table({"misordered": 5})
    shown = {row[0].text: row[1:] for row in table.rows}
    assert shown["misordered"] == ["5", "–"] and shown["gMAD pairs"] == ["–", ""]
