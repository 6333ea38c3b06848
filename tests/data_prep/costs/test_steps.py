"""Costs of steps against a reckoning by hand, and their text against the numbers."""

import pytest

from configs import ov_7b, quickstart, small
from data_prep.costs import amounts, measured, steps
from data_prep.prepare.config import PairConfig, PrepConfig
from data_prep.simulators import Clip
from vqa_jax.settings import RelabelConfig, TrainConfig

HOUR = 3600
_AMOUNTS = ("core_seconds", "num_bytes")


def _run(config, found, sample=(amounts.TYPICAL,), **more):
    return steps.Run(
        config.student,
        PrepConfig.from_dict(config.prep.to_dict()),
        PairConfig(**config.pairs.to_dict()),
        RelabelConfig(**config.relabel.to_dict()),
        TrainConfig.from_dict(config.train.to_dict()),
        found,
        sample,
        **more,
    )


@pytest.fixture
def round_numbers(monkeypatch):
    """Figures that a person reckons with."""
    student = measured.Student("", 0.5, 3.0, 0.25, 100, 2.0, tokens=0.1)
    figures = {
        "PROBE": 1.0,
        "READ": 10.0,
        "VERSION": {"gaussian_blur": 4.0, "h265": 100.0},
        "H265": {"fast": 0.1, "veryslow": 1.0},
        "CHAINED": {"blur": "gaussian_blur"},
        "METRICS": 7.0,
        "SELECT": 0.01,
        "PAIR": 0.001,
        "VERIFY": 1e-6,
        "PICTURES": 0.5,
        "CLIPS": 0.25,
        "TOKENS": 1000,
        "METRICS_ROW": 100,
        "LISTING_ROW": 60,
        "SCORES_ROW": 50,
        "PAIR_ROW": 120,
        "STUDENTS": {"small": student},
        "TEACHERS": {"uvq": measured.Teacher(5.0, 2.0)},
        "LIGHT": 0.02,
        "VIEWS": {"sampled": measured.View(3.0, 7000.0)},
    }
    for name, value in figures.items():
        monkeypatch.setattr(measured, name, value)


# Two seconds of 25 frames of 0.04 megapixels: 2 megapixels in all, of which a segment takes one.
CLIP = Clip(50, 200, 200, 25.0)
CORPUS = amounts.Amounts(
    10,
    {
        ("train", "source"): 8,
        ("train", "gaussian_blur"): 20,  # four segments
        ("heldout", "source"): 2,
        ("heldout", "gaussian_blur"): 10,
        ("heldout", "h265"): 4,  # one segment
    },
)


def test_stage_1_by_hand(round_numbers):
    config = small.get_config()
    config.prep.segment_seconds = 1.28  # 32 frames: 1.28 megapixels, two pictures, one clip
    config.prep.h265_preset = "fast"
    config.train.optim.update({"total_steps": 10, "warmup_steps": 0})
    config.train.input.batch_size = 4
    with config.ignore_type():
        config.pairs.simulator_per_label = {"spatial": {"total": 30}, "streaming": 5}
    config.pairs.teachers_per_label, config.pairs.teachers_on_sources = 6, 0
    config.pairs.across = 7
    run = _run(config, CORPUS, [CLIP], listed=100, teachers=["light_a", "uvq"])
    assert run.input_size() == (2, 1)
    found = {cost.step: cost for cost in steps.of_stage(run, 1)}
    order = "metrics select build motion tokens teachers votes pairs verify"
    assert list(found) == [*order.split(), "train_1", "anchors_1", "evaluate_1"]
    assert {cost.device_seconds for cost in found.values()} == {0}
    seconds = {name: cost.core_seconds for name, cost in found.items()}
    # 2 megapixels to decode, and of two seconds a frame of 0.04 each at 7 a megapixel.
    assert seconds["metrics"] == pytest.approx(100 * (2 + 2 * 0.04 * 7))
    assert seconds["select"] == pytest.approx(1)
    # Ten files probed; ten sources, 30 blurred versions and four of H.265 at a tenth of 100.
    assert seconds["build"] == pytest.approx(10 * 2 + 1.28 * (10 * 10 + 30 * 4 + 4 * 10))
    assert seconds["motion"] == pytest.approx(44 * 2)
    assert seconds["tokens"] == pytest.approx(44 * 2 * 0.1)
    assert seconds["teachers"] == pytest.approx(10 * (5 + 2 * 2 + 2))
    assert seconds["votes"] == pytest.approx(44 * 0.02)
    # 30 spatial, 5 of four labels, 6 of five, 7 across; held out 2 x 15 and 1 x 10.
    pairs = 30 + 20 + 30 + 7 + 40
    assert seconds["pairs"] == pytest.approx(pairs * 0.001)
    assert seconds["train_1"] == pytest.approx(10 * 4 * 0.5)
    assert seconds["anchors_1"] == pytest.approx(30 * 3 + 435 * 0.25)
    assert seconds["evaluate_1"] == pytest.approx(16 * 3 + 40 * 2 * 0.25)
    held = {name: cost.num_bytes for name, cost in found.items()}
    picture, frame = 512 * 512 * 3, 56 * 56 * 3
    assert held["build"] == pytest.approx(44 * (2 * picture * 0.5 + 32 * frame * 0.25))
    assert held["motion"] == 44 * 100 * 4 and held["tokens"] == 44 * 2 * 1000
    assert held["pairs"] == pairs * 120
    read = held["metrics"] + held["select"] + held["build"] + held["motion"] + held["tokens"]
    read += held["teachers"] + held["votes"] + held["pairs"]
    assert seconds["verify"] == pytest.approx(read * 1e-6)
    assert held["train_1"] is None


def test_what_neural_teachers_look_at_is_kept_and_scored_of_all_records(round_numbers):
    config = small.get_config()
    config.prep.segment_seconds, config.prep.h265_preset = 1.28, "fast"
    asked = {"listed": 0, "teachers": ["light_a", "uvq"]}
    plain = {c.step: c for c in steps.of_stage(_run(config, CORPUS, [CLIP], **asked), 1)}
    config.prep.teacher_views = ("uvq",)
    found = {c.step: c for c in steps.of_stage(_run(config, CORPUS, [CLIP], **asked), 1)}
    assert plain.keys() - found.keys() == {"teachers"}
    more = {k: getattr(found["build"], k) - getattr(plain["build"], k) for k in _AMOUNTS}
    assert more == pytest.approx({"core_seconds": 44 * 3, "num_bytes": 44 * 7000})
    # A view of 1.28 seconds, which is not decoded again.
    assert found["votes"].core_seconds == pytest.approx(44 * (0.02 + 5 + 1.28 * 2))
    assert found["votes"].amount == "44 records by light_a, uvq"
    config.prep.teacher_views = ("dover",)  # of which the figures above say nothing
    unknown = steps.of_stage(_run(config, CORPUS, [CLIP], **asked), 1)[0]
    assert (unknown.step, *(getattr(unknown, k) for k in _AMOUNTS)) == ("build", None, None)


def test_a_later_stage_looks_at_its_share_of_the_segments(round_numbers):
    config = small.get_config()
    config.relabel.pool_segments, config.relabel.gmad_quota = 2, 9  # of eight segments
    config.relabel.misordered_quota = 4
    relabel, train, *_ = steps.of_stage(_run(config, CORPUS, [CLIP]), 2)
    assert (relabel.step, train.step) == ("relabel_2", "train_2")
    # A quarter of 28 videos and of 4 x 15 pairs, and the gMAD pairs; both orders of each.
    assert relabel.core_seconds == pytest.approx(7 * 3 + 2 * (15 + 9) * 0.25)
    assert relabel.num_bytes == 13 * 120


def test_chains_and_devices_and_what_nobody_measured(round_numbers, monkeypatch):
    config = quickstart.get_config()
    config.prep.h265_preset, config.prep.segment_seconds = "veryslow", 0.0
    chain = amounts.Amounts(0, {("train", "blur_h265"): 1})
    assert steps.of_stage(_run(config, chain, [CLIP]), 1)[0].core_seconds == pytest.approx(208)
    other = amounts.Amounts(0, {("train", "source"): 1, ("train", "haze"): 1})
    assert steps.of_stage(_run(config, other, [CLIP]), 1)[0].core_seconds is None
    config.prep.h265_preset = "slow"
    assert steps.of_stage(_run(config, chain, [CLIP]), 1)[0].core_seconds is None
    config.prep.h265_preset = "veryslow"
    config.student = "ov_7b"  # of which the figures above say nothing
    run = _run(config, CORPUS, [CLIP], teachers=["a_new_one"])
    unknown = {c.step: c.core_seconds for c in steps.of_stage(run, 1)}
    for name in ("motion", "teachers", "train_1", "anchors_1", "evaluate_1"):
        assert unknown.pop(name) is None
    assert None not in unknown.values() and "tokens" not in unknown
    monkeypatch.setattr(measured, "STUDENTS", {"ov_7b": measured.Student("H100", 2.0, 1.0, 1.0)})
    trained = steps.of_stage(_run(config, CORPUS, [CLIP]), 1)[-3]
    seen = config.train.optim.total_steps * config.train.input.batch_size
    assert (trained.core_seconds, trained.device_seconds) == (0, 2 * seen)


def _cells(text):
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]


def test_the_table_says_the_numbers_and_their_sums():
    cost, other = steps.Cost("a", "3 files", 7200.0, 2.5e9), steps.Cost("b", "", None, None, 3.6e6)
    head, _, *rows = _cells(steps.table([cost, other]))
    assert head[2:] == ["core-hours", "GB written", "device-hours"]
    assert rows == [
        ["a", "3 files", "2", "2.5", ""],
        ["b", "", "not measured", "not measured", "1,000"],
        ["all that was measured", "", "2", "2.5", "1,000"],
    ]
    assert steps.line(cost) == "a: about 2 core-hours, 2.5 GB written (3 files)"
    assert "not measured core-hours" in steps.line(other)


def test_the_papers_three_stages_train_on_all_pairs_so_far():
    """Of the table that `launch/stage.sh 1 2 3 --dry-run` prints."""
    for stage, pairs in ((1, 500_000), (2, 600_000), (3, 700_000)):
        config = ov_7b.get_config(f"paper:{stage}")
        prep = PrepConfig.from_dict(config.prep.to_dict())
        found = amounts.planned(prep, amounts.paper_inputs(prep))
        run = _run(config, found, listed=amounts.PAPER_LISTED)
        costs = {cost.step: cost for cost in steps.of_stage(run, stage)}
        hours = costs[f"train_{stage}"].device_seconds / HOUR
        assert hours == pytest.approx(pairs * measured.STUDENTS["ov_7b"].pair / HOUR)
        if stage > 1:
            assert "at most 100,000 new" in costs[f"relabel_{stage}"].amount
            share = {2: 104, 3: 54}[stage] / 280
            assert costs[f"relabel_{stage}"].amount.startswith(
                f"{share * found.videos('train'):,.0f} videos"
            )
    assert steps.labelled(run.pairs) == 500_000
