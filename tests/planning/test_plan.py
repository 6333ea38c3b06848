"""The plan tool on pretended devices: shapes, memory, FLOPs, and what the command says."""

import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from vqa_jax import settings as optim
from vqa_jax.cli import main
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.devices import execution, sharding
from vqa_jax.devices import topology as topology_lib
from vqa_jax.devices.topology import CHIPS, Topology, TopologyError
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models import flops
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.planning import hlo, plan, shapes
from vqa_jax.planning import text as plan_text
from vqa_jax.settings import LossConfig
from vqa_jax.training import optim as optim_lib
from vqa_jax.training import step
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.training.input_pipeline import training_batches
from vqa_jax.weights import bundle

SPEC = tiny_corpus.student_spec()


def _big_spec(frames=10):
    return bundle.make_spec("ov_7b", Preprocess(max_key_frames=frames), frames, "")


def _config(text, rules=optim.EVERYTHING):
    return step.StepConfig(
        optim=optim.OptimConfig(10, 0, 1e-3, 0.05, 1.0, 0.98),
        loss=LossConfig(),
        severity_weight=0.0,
        level_ids=text.level_ids,
        level_index=text.level_index,
        trainable=rules,
    )


def _mesh(*shape):
    return sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])


def test_batch_is_what_the_input_pipeline_makes(corpus):
    geometry = PromptGeometry(bundle.make_tokenizer(SPEC), SPEC.student.tokens_per_frame, "level")
    pairs = PairCorpus(corpus, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)
    settings = tiny_corpus.input_config(answer="level")
    clips = SPEC.preprocess.max_clips
    real = training_batches(pairs, settings, geometry, SPEC.severity_simulators, clips)[0]
    spec = dataclasses.replace(SPEC, num_frames=settings.num_frames)
    shape = shapes.pair_shape(spec, shapes.prompt_size(spec), settings.batch_size, settings.answer)
    described = shapes.abstract_batch(spec, shape, _mesh(1, 1, 1))
    assert {k: (v.shape, v.dtype) for k, v in described.items()} == {
        k: (v.shape, v.dtype) for k, v in real.items()
    }


def test_prompt_sizes_are_those_of_the_published_tokenizer(shared):
    with open(shared / "golden" / "prompt_ids.json", encoding="utf-8") as f:
        golden = json.load(f)
    text = shapes.QWEN2_PROMPT
    assert text.scoring == len(golden["scoring"]) - 4
    assert {len(ids) - 4 for ids in golden["training"].values()} == {text.training}
    assert set(text.level_ids) == set(golden["level_token_ids"].values())
    worse = golden["training"]["worse"]
    level = worse.index(golden["level_token_ids"]["worse"])
    # The answer ends with <|im_end|>, after which a newline closes the turn.
    assert level - text.level_index + text.sentence == len(worse) - 1


def test_sequences_may_be_padded_but_not_cut():
    spec, text = _big_spec(), shapes.QWEN2_PROMPT
    assert shapes.pair_shape(spec, text, 8, "sentence").tokens == 84 + 2 * (1960 + 1 + 10)
    assert shapes.pair_shape(spec, text, 8, "sentence", 4096).tokens == 4096
    with pytest.raises(ValueError, match="needs 4026"):
        shapes.pair_shape(spec, text, 8, "sentence", 4000)


def test_state_bytes_are_those_of_a_real_state():
    student, mesh = FunctionalStudent(SPEC.student), _mesh(2, 2, 2)
    config = _config(shapes.prompt_size(SPEC))
    abstract = step.abstract_state(student, config, mesh)
    state = jax.device_put(
        step.init_state(student, config, 0), jax.tree.map(lambda x: x.sharding, abstract)
    )
    held = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state)
        for shard in leaf.addressable_shards
        if shard.device == jax.devices()[5]
    )
    assert shapes.shard_bytes(abstract) == held


@pytest.mark.parametrize(
    ("rules", "bytes_a_parameter"),
    [(optim.EVERYTHING, 4), ((("vision/*", 1.0), ("*_projector/*", 1.0)), 2)],
)
def test_state_of_the_large_student_by_hand(rules, bytes_a_parameter):
    spec = _big_spec()
    student, mesh = FunctionalStudent(spec.student), _mesh(1, 8, 1)
    state = step.abstract_state(student, _config(shapes.QWEN2_PROMPT, rules), mesh)
    # 28 layers, each with W_q, W_o, W_k, W_v and three MLP matrices; two tables.
    llm = 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944) + 2 * 152064 * 3584
    assert shapes.shard_bytes(state["params"]["llm"]) == pytest.approx(
        bytes_a_parameter * llm / 8, rel=1e-3
    )
    trained, _ = optim_lib.split(state["params"], rules)
    moments = shapes.shard_bytes(state["opt_state"])
    assert moments == pytest.approx(2 * shapes.shard_bytes(trained), abs=64)


def _micro_spec():
    """Compiles in seconds: two narrow layers each, loops kept."""
    student = SPEC.student
    vision = dataclasses.replace(
        student.vision, embed_dim=16, mlp_dim=32, num_heads=2, num_layers=2, unroll=1
    )
    llm = dataclasses.replace(
        student.llm, embed_dim=32, mlp_dim=64, num_heads=4, head_dim=8, num_layers=2, unroll=1
    )
    return dataclasses.replace(SPEC, student=dataclasses.replace(student, vision=vision, llm=llm))


def test_training_and_scoring_steps_compile_and_add_up():
    spec, text = _micro_spec(), shapes.prompt_size(SPEC)
    mesh, student = _mesh(1, 4, 1), FunctionalStudent(spec.student)
    chips = Topology("v5e:2x2", (2, 2), tuple(jax.devices()[:4]), CHIPS["v5e"])
    shape = shapes.pair_shape(spec, text, 8, "level")
    train = plan.plan_training(student, _config(text), spec, shape, chips, mesh)
    encode, suffix = plan.plan_scoring(student, spec, text, 4, chips, mesh)
    for found in (train, encode, suffix):
        given = found.memory.params + found.memory.optimizer + found.memory.batch
        assert found.memory.total >= given + found.memory.temporaries > given
        assert found.memory.spare == 16e9 - found.memory.total
        assert 0 < found.model <= found.executed
        bounds = {k: v for k, v in found.seconds.items() if k != "step"}
        assert found.seconds["step"] == max(bounds.values())
        assert bounds["arithmetic"] == pytest.approx(found.executed / 4 / 197e12)
        assert bounds["hbm"] == found.hbm / 819e9
        assert found.mfu == pytest.approx(found.model / (found.seconds["step"] * 4 * 197e12))
    assert {"all-gather", "reduce-scatter"} & set(train.collectives)
    assert suffix.memory.optimizer == 0 and suffix.pairs == 4 * plan.NUM_ANCHORS
    text_of = plan_text.render([train, encode, suffix], chips, (1, 4, 1))
    assert "to spare" in text_of and "MFU at most" in text_of and "chip hours" in text_of
    plain = json.loads(json.dumps(plan_text.as_dict([train], chips, (1, 4, 1))))
    hours = plain["steps"]["train"]["stage_chip_hours"]
    assert hours == pytest.approx(500_000 / 8 * train.seconds["step"] * 4 / 3600)
    assert plain["formula"] == flops.FORMULA


def test_interconnect_time_follows_the_links_that_a_group_can_use():
    chips = Topology("v5e:8x8", (8, 8), tuple(range(64)), CHIPS["v5e"])
    assert chips.link_share(8) == 0.5 and chips.link_share(64) == 1.0
    gather = hlo.Collective("all-gather", 1.0, 8, 100, 2e9, "")
    bounds = plan._bounds(0.0, hlo.Traffic(0.0, (gather,)), chips)
    assert bounds["step"] == bounds["interconnect"] == pytest.approx(2e9 / 100e9)


def test_what_does_not_fit_is_read_from_the_compilers_message():
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
        "hbm. Used 21.90G of 15.75G hbm. Exceeded hbm capacity by 6.15G."
    )
    assert plan._needed_bytes(message) == int(21.9 * 2**30)
    newer = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (22.37G) exceeds available HBM (15.75G)."
    )
    assert plan._needed_bytes(newer) == int(22.37 * 2**30)
    assert plan._needed_bytes("INTERNAL: something else") is None


@pytest.mark.parametrize("name", ["v5x:8x8", "v5e:8y8", "v5e", "cpu:"])
def test_unknown_topologies_are_refused(name):
    with pytest.raises(TopologyError, match="write GENERATION"):
        topology_lib.open_topology(name)


def test_too_many_pretended_devices_are_refused():
    assert len(topology_lib.open_topology("cpu:2x2").devices) == 4
    with pytest.raises(TopologyError, match="8 CPU devices"):
        topology_lib.open_topology("cpu:64")


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


class _Placed:
    """A device that says where it is on a torus."""

    def __init__(self, coords):
        self.coords = coords


@pytest.mark.parametrize(
    ("shape", "torus", "lengths"),
    [((1, 64, 1), (8, 8), [8, 8]), ((1, 64, 1), (4, 4, 4), [4, 4, 4]), ((8, 8, 1), (8, 8), None)],
)
def test_every_group_of_a_gather_lies_on_one_torus_axis(shape, torus, lengths):
    devices = np.empty(64, object)
    devices[:] = [_Placed(coords) for coords in np.ndindex(*torus)]
    mesh = jax.sharding.AbstractMesh(shape, sharding.MESH_AXES)
    placed = types.SimpleNamespace(
        axis_names=mesh.axis_names, shape=mesh.shape, devices=devices.reshape(shape)
    )
    steps = sharding.ring_groups(placed, "fsdp")
    assert [groups and len(groups[0]) for groups in steps] == (lengths or [None])
    for groups in filter(None, steps):
        assert sorted(np.ravel(groups)) == list(range(64))
        for group in groups:
            places = np.array([devices[i].coords for i in group])
            assert (np.ptp(places, axis=0) > 0).sum() == 1


def test_gathering_in_rings_gives_values_and_gradients_of_one_gather(monkeypatch):
    mesh = _mesh(1, 8, 1)
    weights = jax.random.normal(jax.random.key(0), (16, 3))
    rows = jax.random.normal(jax.random.key(1), (8, 16))

    def loss(weights):
        with execution.executing(execution.Execution(mesh)):
            out = execution.on_shards(
                lambda p, x: jax.numpy.sin(x @ p["w"]),
                {"w": weights},
                {"w": ("embed", None)},
                (rows,),
            )
        return (out**2).sum()

    rings = [np.arange(8).reshape(2, 4).tolist(), np.arange(8).reshape(2, 4).T.tolist()]
    monkeypatch.setattr(execution, "ring_groups", lambda *_: rings)
    value, gradient = jax.jit(jax.value_and_grad(loss))(weights)
    expected = jax.value_and_grad(lambda w: (jax.numpy.sin(rows @ w) ** 2).sum())(weights)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-5)
