"""Measured figures: one for all that can be named, and each with its line in launch/README.md."""

import dataclasses
import pathlib
import re

import pytest

from data_prep.costs import measured
from data_prep.prepare.config import PrepConfig
from data_prep.simulators import SIMULATORS
from data_prep.simulators.encode import PRESETS as ENCODER_PRESETS
from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.presets import PRESETS
from vqa_jax.teachers import known

PAGE = pathlib.Path(__file__).resolve().parents[3] / "launch" / "README.md"


def test_figures_are_of_simulators_and_the_methods_nine_are_there():
    alone = {name for name, simulator in SIMULATORS.items() if simulator.kind != "mixed"}
    assert set(PrepConfig().simulators) <= set(measured.VERSION) <= alone
    chains = [name.split("_") for name in set(SIMULATORS) - alone]
    assert {measured.CHAINED[first] for first, _ in chains} <= set(measured.VERSION)
    assert {codec for _, codec in chains} <= set(measured.VERSION)
    assert set(measured.H265) <= set(ENCODER_PRESETS["h265"])
    assert measured.H265[PrepConfig().h265_preset] == 1


def test_students_are_presets_with_the_towers_and_features_that_they_have():
    for name, student in measured.STUDENTS.items():
        cfg = PRESETS[name]
        assert student.motion_dim == cfg.motion_dim
        assert (student.tokens is not None) == isinstance(cfg.vision, CellTowerConfig)


def test_neural_teachers_are_known_ones():
    neural = {card.name for card in known.CARDS if card.kind == known.NEURAL}
    assert set(measured.TEACHERS) == neural - {"level_prompt"}  # which is a student of any size


def _figures():
    """Name in the page -> value in its unit; ten seconds of 720p are 276.48 megapixels."""
    ten = 300 * 1280 * 720 / 1e6
    found = {"PROBE": measured.PROBE * ten, "READ": measured.READ * ten}
    found |= {name: seconds * ten for name, seconds in measured.VERSION.items()}
    found |= {f"h265.{preset}": share for preset, share in measured.H265.items()}
    found["METRICS"] = measured.METRICS * 1280 * 720 / 1e6  # a frame
    for name in ("SELECT", "PAIR"):
        found[name] = getattr(measured, name) * 1e6  # a million
    found["VERIFY"] = measured.VERIFY * 1e9  # a gigabyte
    others = "PICTURES CLIPS TOKENS METRICS_ROW LISTING_ROW SCORES_ROW PAIR_ROW LIGHT"
    found |= {name: getattr(measured, name) for name in others.split()}
    for name, view in measured.VIEWS.items():
        found |= {f"{name}.seconds": view.seconds, f"{name}.bytes": view.num_bytes}
    for name, student in measured.STUDENTS.items():
        fields = dataclasses.asdict(student)
        for field in ("pair", "look", "compare", "motion", "tokens"):
            if fields[field] is not None:
                found[f"{name}.{field}"] = fields[field]
    return found


@pytest.mark.parametrize("name", _figures())
def test_every_figure_stands_in_the_page(name):
    rows = dict(re.findall(r"\| `([\w.]+)` \| ([\d.,]+) ", PAGE.read_text("utf-8")))
    assert float(rows[name].replace(",", "")) == pytest.approx(_figures()[name], rel=0.006)
