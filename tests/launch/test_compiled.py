"""The table of what XLA makes of the 7B student's steps: well-formed, and still true."""

import json

import pytest

from launch.bench import compiled
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.planning.compiled import Memory, StepPlan

TABLE = json.loads(compiled.TABLE.read_text())
STEPS = {"authors": ["train"], "paper": ["train"], "score": ["encode", "suffix"]}


def test_rows_of_the_table_are_of_known_steps_that_fit():
    assert TABLE["steps"] and TABLE["steps"].keys() <= set(compiled.names())
    for name, steps in TABLE["steps"].items():
        assert list(steps) == STEPS[name.split()[1]]
        for row in steps.values():
            assert row["peak_gb"] < (16 if name.startswith("v5e") else 32)
            assert 0 < row["model_tflop"] <= row["executed_tflop"]
    rows = sum(map(len, TABLE["steps"].values()))
    assert compiled.table(TABLE).count("\n") == 1 + rows


def test_facts_and_differences_by_hand():
    sums = {"all-reduce": {"count": 3.0, "gigabytes": 0.5}}
    memory = Memory(1, 2, 3, 4, 5, 2_500_000_000, None)
    one = StepPlan(
        *("train", 8, 99, memory, 2e12, 0.0, 0.0, 1e12, 4e9, 5e8, sums, (), {}, None, 1.0)
    )
    found = compiled.facts(one)
    assert (found["peak_gb"], found["hbm_gb"], found["executed_tflop"]) == (2.5, 4.0, 2.0)
    assert found["collectives"] == sums
    assert compiled.differences(found, found, 0.0) == []
    worse = found | {"peak_gb": 2.6, "collectives": {"all-gather": sums["all-reduce"]}}
    told = compiled.differences(worse, found, 0.02)
    assert told[:2] == [
        "collectives all-gather: {'count': 3.0, 'gigabytes': 0.5}, was none",
        "collectives all-reduce: none, was {'count': 3.0, 'gigabytes': 0.5}",
    ]
    assert told[2:] == ["peak_gb: 2.6, was 2.5"]
    assert len(compiled.differences(worse, found, 0.05)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE["steps"])
def test_what_is_compiled_now_is_what_the_table_says(monkeypatch, name):
    pytest.importorskip("libtpu", reason="pip install -r launch/requirements-plan.txt")
    if compiled.versions() != TABLE["made_with"]:
        pytest.skip(f"table of {TABLE['made_with']}: python launch/bench compiled --out makes it")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # libtpu ends the process over those of CPUs
    found = compiled.compiled(name)
    told = compiled.differences(found, TABLE["steps"][name], **TOLERANCES["compiled_step"])
    assert not told, f"if it is meant: python launch/bench compiled --only {name!r} --out FILE"
