"""The check of a card, rehearsed on the CPU at small sizes: the same code, its own processes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from launch.gpu_check import __main__, sizes
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_full_pair_fills_its_tokens_and_a_prompt_is_that_of_scoring():
    batch, geometry = sizes.training_batch(sizes.SMALL)
    assert batch["tokens"].shape == (1, sizes.SMALL.tokens)
    full = sizes.FULL
    per_frame = full.student.tokens_per_frame
    length = geometry.max_length(prompt.Bank(full.frames * per_frame, full.clips))
    assert 0.95 * full.tokens < length <= full.tokens
    layout = sizes.scoring_layout(sizes.SMALL)
    assert 0 < layout.prefix_len < len(layout.tokens)


def test_whole_pairs_cost_more_than_the_rest_after_a_cached_anchor():
    for size in (sizes.FULL, sizes.SMALL):
        cached, whole = (sizes.decoding_flops(size, cached) for cached in (True, False))
        assert 0.4 * whole < cached < 0.7 * whole
    leaves = FunctionalStudent(sizes.FULL.student).abstract()["llm"]["layers"].values()
    weights = sum(leaf.size for leaf in leaves)
    assert sizes.training_flops(sizes.FULL, 1) > 6 * weights * sizes.FULL.tokens


def test_rates_follow_from_seconds_and_operations():
    part = {"seconds": 0.5, "flops": 1e12, "tokens": 100, "inner": {"seconds": 2.0, "flops": 4e12}}
    found = __main__.with_rates(part, peak=8e12)
    assert found["mfu"] == 0.25 and found["tokens_per_second"] == 200
    assert found["inner"]["mfu"] == 0.25 and found["inner"]["tokens_per_second"] is None
    assert __main__.with_rates(part, peak=None)["mfu"] is None


@pytest.mark.slow
def test_small_sizes_run_through_on_the_cpu(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    out = tmp_path / "check.json"
    done = subprocess.run(
        ["bash", "launch/gpu_check.sh", "--small", "--limit", "1800", "--out", str(out)],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = json.loads(out.read_text())
    errors = {name: part["error"] for name, part in found["parts"].items() if "error" in part}
    assert errors == {} and done.returncode == 0, done.stdout
    parts = found["parts"]
    assert parts["train"]["parameters"] == pytest.approx(
        parts["peer_train"]["parameters"], rel=0.01
    )
    assert parts["train"]["flops"] == parts["peer_train"]["flops"]
    # On the CPU both sides of float32 are the same program.
    assert parts["numbers"]["compared"]["float32"]["loss"]["error"] == 0
    assert len(parts["score"]["q"]) == sizes.SMALL.videos
    assert parts["score"]["exported"]["difference"] < 0.1  # bfloat16
    assert parts["train"]["two_parts"]["tokens"] == 2 * parts["train"]["tokens"]
    assert "passed" in done.stdout
