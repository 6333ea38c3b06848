"""The commands that make a student: what `plan` says, refuses and prints."""

import json
import sys

from vqa_jax.cli import main
from vqa_jax.devices import topology as topology_lib
from vqa_jax.planning import plan


def test_command_says_what_to_install(monkeypatch, capsys):
    def absent(*_, **__):
        raise RuntimeError("no libtpu")

    monkeypatch.setattr(topology_lib.topologies, "get_topology_desc", absent)
    monkeypatch.setitem(sys.modules, "libtpu", None)
    assert main.main(["plan", "--config=tiny", "--topology", "v5e:2x2"]) == 1
    assert 'pip install "vqa_jax[plan]"' in capsys.readouterr().err


def test_command_refuses_batches_and_lengths_that_do_not_fit(capsys):
    start = ["plan", "--config=tiny", "--topology", "cpu:8", "--mesh=1,8,1"]
    assert main.main([*start, "--pairs=12"]) == 1
    assert "12 pairs do not divide over 8" in capsys.readouterr().err
    assert main.main([*start, "--tokens=5"]) == 1
    assert "5 tokens" in capsys.readouterr().err


def test_command_prints_what_was_planned(monkeypatch, capsys):
    seen = {}

    def pretend(settings, spec, chips, mesh, steps, pairs, tokens):
        seen.update(mesh=dict(mesh.shape), steps=steps, preset=spec.preset)
        memory = plan.Memory(1, 2, 3, 4, 5, 17_000_000_000, -1e9)
        return [plan.StepPlan("train", 8, 99, memory, 2.0, 0, 1.0, None, None, {}, (), {}, None, 1)]

    monkeypatch.setattr(plan, "plan_run", pretend)
    arguments = ["plan", "--config", "ov_7b:paper", "--topology=cpu:8", "--mesh=2,-1,1"]
    assert main.main([*arguments, "--steps=train"]) == 1  # it does not fit
    assert "DOES NOT FIT, 1.00 GB too much" in capsys.readouterr().out
    assert seen == {
        "mesh": {"data": 2, "fsdp": 4, "tensor": 1},
        "steps": "train",
        "preset": "ov_7b",
    }
    main.main([*arguments, "--json"])
    plain = json.loads(capsys.readouterr().out)
    assert plain["steps"]["train"]["fits"] is False and plain["chips"] == 8
