"""Where a run begins: in shards from the first byte on, frozen weights from its start alone."""

import collections
import dataclasses

import jax
import numpy as np
import pytest

from tests.fixtures.tiny_run import CONFIG, SPEC
from vqa_jax.corpus import store
from vqa_jax.devices import sharding
from vqa_jax.models import int8, lora
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.planning.shapes import shard_bytes
from vqa_jax.training import checkpoint, start
from vqa_jax.training import step as step_lib
from vqa_jax.weights import bundle, stream

PROJECTORS = (("motion_projector/*", 1.0), ("vision_projector/*", 1.0))


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> str:
    """A student's folder with random weights."""
    folder = str(tmp_path_factory.mktemp("given"))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        FunctionalStudent(SPEC.student).abstract(),
    )
    bundle.save(folder, SPEC, params, {})
    return folder


def _start(corpus, mesh, spec=SPEC, **changes) -> start.Start:
    config = dataclasses.replace(CONFIG, **changes)
    student = FunctionalStudent(with_additions(spec.student, config.lora_rank, config.lora_base))
    step_config = step_lib.StepConfig.of(config, (3, 4, 5, 6, 7), 0)
    pairs = store.PairCorpus(corpus, ("vqa_pairs_1",), "train", spec.extractor)
    return start.Start(config, spec, student, step_config, sharding.make_mesh(mesh), pairs)


def _held() -> dict[jax.Device, int]:
    """Bytes of all buffers by device; a shard may also be an array of its own."""
    sizes = {}
    for array in jax.live_arrays():
        for shard in array.addressable_shards:
            buffer = shard.data.unsafe_buffer_pointer()
            sizes[shard.device, buffer] = shard.data.nbytes
    bytes_of = collections.Counter()
    for (device, _), size in sizes.items():
        bytes_of[device] += size
    return bytes_of


def _begun(begun: start.Start, folder) -> step_lib.TrainState:
    with checkpoint.Checkpointer(str(folder), {"of": "a test"}) as checkpoints:
        return begun.state(checkpoints)


def test_no_device_ever_holds_more_than_its_shards(corpus, given, tmp_path, monkeypatch):
    begun = _start(corpus, (1, 8, 1), init_from=given)
    abstract = step_lib.abstract_state(begun.student, begun.step_config, begun.mesh)
    before, most, load = _held(), collections.Counter(), stream.load_array

    def spied(*arguments):
        array = load(*arguments)
        for device, held in _held().items():
            most[device] = max(most[device], held - before[device])
        return array

    monkeypatch.setattr("vqa_jax.weights.stream.load_array", spied)
    state = _begun(begun, tmp_path)
    after = _held()
    assert len(most) == 8 and max(most.values()) == shard_bytes(abstract["params"])
    assert {after[d] - before[d] for d in jax.devices()} == {shard_bytes(abstract)}
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert shard_bytes(abstract) < whole / 4  # eight ways, but for what does not divide
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.sharding, b.sharding), state, abstract)
    assert int(state["step"]) == 0


def test_frozen_weights_are_not_saved_and_come_back(corpus, given, tmp_path):
    """Also with a fresh head, which is the run's own and frozen here."""
    head = dataclasses.replace(SPEC.student, num_severity_classes=3)
    spec = dataclasses.replace(SPEC, student=head)
    begun = _start(corpus, (2, 4, 1), spec, init_from=given, trainable=PROJECTORS)
    state = _begun(begun, tmp_path)
    wanted = jax.device_get(state)
    assert wanted["params"]["newline"].dtype == "bfloat16"
    assert wanted["params"]["severity_kernel"].shape[1] == 3
    kept = step_lib.kept(state, PROJECTORS)
    assert kept["params"].keys() == {"motion_projector", "vision_projector"}
    with checkpoint.Checkpointer(str(tmp_path), {"of": "a test"}) as checkpoints:
        checkpoints.save(3, kept)
    again = _begun(_start(corpus, (1, 8, 1), spec, init_from=given, trainable=PROJECTORS), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), wanted)
    folders = [tmp_path / "checkpoints" / "3", tmp_path / "whole" / "checkpoints" / "3"]
    # As earlier versions saved it: all of it is read there and the trained part taken.
    with checkpoint.Checkpointer(str(tmp_path / "whole"), {"of": "a test"}) as checkpoints:
        checkpoints.save(3, state)
    again = _begun(begun, tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), wanted)
    sizes = [sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) for folder in folders]
    frozen = sum(x.nbytes for x in jax.tree.leaves(wanted["params"]))
    frozen -= sum(x.nbytes for x in jax.tree.leaves(kept["params"]))
    assert sizes[1] - sizes[0] > frozen / 2  # compressed


def test_a_decoder_in_int8_is_read_into_its_shards_and_comes_back(corpus, given, tmp_path):
    rules = (("llm/layers/lora_*", 1.0), *PROJECTORS)
    changes = {"init_from": given, "lora_rank": 4, "lora_base": "int8", "trainable": rules}
    begun = _start(corpus, (2, 4, 1), **changes)
    state = _begun(begun, tmp_path)
    layers = jax.device_get(state["params"]["llm"]["layers"])
    read = bundle.load_params(given, FunctionalStudent(SPEC.student))["llm"]["layers"]
    for weight, inputs in lora.TARGETS.items():
        codes, steps = int8.quantized_weight(read[weight], inputs)
        np.testing.assert_array_equal(layers[weight], codes)
        assert layers[int8.steps_of(weight)].dtype == np.float32
        np.testing.assert_allclose(layers[int8.steps_of(weight)], steps, rtol=1e-6)
    assert layers["norm1_scale"].dtype == "bfloat16"
    with checkpoint.Checkpointer(str(tmp_path), {"of": "a test"}) as checkpoints:
        checkpoints.save(3, step_lib.kept(state, rules))
    again = _begun(_start(corpus, (1, 8, 1), **changes), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(state))
    written = str(tmp_path / "student")
    bundle.save_trained(written, SPEC, begun.student, state["params"], (begun.mesh, ()), {})
    spec = bundle.load_spec(written)
    merged = bundle.load_params(written, FunctionalStudent(spec.student))["llm"]["layers"]
    assert merged.keys() == read.keys()
    for weight in lora.TARGETS:  # fresh additions are nothing: at most half a step of 127
        largest = np.abs(read[weight]).max()
        np.testing.assert_allclose(merged[weight], read[weight], rtol=0, atol=0.5 * largest / 127)


def test_a_student_of_another_size_is_named(corpus, given, tmp_path):
    llm = dataclasses.replace(SPEC.student.llm, num_layers=3)
    spec = dataclasses.replace(SPEC, student=dataclasses.replace(SPEC.student, llm=llm))
    with pytest.raises(
        bundle.BundleError, match=r"another student than tiny: llm\.num_layers 2, n"
    ):
        _begun(_start(corpus, (1, 1, 8), spec, init_from=given), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2), (8, 1, 1)])
def test_fresh_weights_and_additions_are_those_of_one_device(corpus, given, tmp_path, shape):
    for name, changes in (("fresh", {}), ("added", {"init_from": given, "lora_rank": 8})):
        one, shared = (_start(corpus, mesh, **changes) for mesh in ((1, 8, 1), shape))
        alone = one.student.init(one.config.seed)
        state = _begun(shared, tmp_path / name)
        for path, leaf in bundle.flatten(state["params"]).items():
            if name == "fresh" or "lora_" in path:
                np.testing.assert_allclose(leaf, bundle.flatten(alone)[path], rtol=1e-5, atol=1e-8)


def test_a_run_rotates_as_the_student_that_it_starts_from(given):
    """Releases of one decoder differ in the rotary base alone."""
    llm = dataclasses.replace(SPEC.student.llm, rope_theta=5e6)
    preset = dataclasses.replace(SPEC, student=dataclasses.replace(SPEC.student, llm=llm))
    assert start.as_given(preset, given) == SPEC
    assert start.as_given(preset, "") == preset
