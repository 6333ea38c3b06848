"""Shapes of a step against real batches, prompts and states."""

import dataclasses
import json

import jax
import pytest

from tests.fixtures import micro_student, tiny_corpus
from tests.fixtures.planned_step import SPEC, big_spec
from tests.fixtures.planned_step import config as config_of
from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax import settings as optim
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.planning import shapes
from vqa_jax.training import optim as optim_lib
from vqa_jax.training import step
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.training.input_pipeline import training_batches
from vqa_jax.weights import bundle


def test_batch_is_what_the_input_pipeline_makes(corpus):
    geometry = PromptGeometry(bundle.make_tokenizer(SPEC), SPEC.student.tokens_per_frame, "level")
    pairs = PairCorpus(corpus, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)
    settings = tiny_corpus.input_config(answer="level")
    clips = SPEC.preprocess.max_clips
    real = training_batches(pairs, settings, geometry, SPEC.severity_simulators, clips)[0]
    spec = dataclasses.replace(SPEC, num_frames=settings.num_frames)
    shape = shapes.pair_shape(spec, shapes.prompt_size(spec), settings.batch_size, settings.answer)
    described = shapes.abstract_batch(spec, shape, mesh_of(1, 1, 1))
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
    spec, text = big_spec(), shapes.QWEN2_PROMPT
    assert shapes.pair_shape(spec, text, 8, "sentence").tokens == 84 + 2 * (1960 + 1 + 10)
    assert shapes.pair_shape(spec, text, 8, "sentence", 4096).tokens == 4096
    with pytest.raises(ValueError, match="needs 4026"):
        shapes.pair_shape(spec, text, 8, "sentence", 4000)


def test_state_bytes_are_those_of_a_real_state():
    student, mesh = FunctionalStudent(SPEC.student), mesh_of(2, 2, 2)
    config = config_of(shapes.prompt_size(SPEC))
    abstract = step.abstract_state(student, config, mesh)
    state = jax.device_put(
        step.state_of_params(micro_student.drawn(student.abstract()), config),
        jax.tree.map(lambda x: x.sharding, abstract),
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
    spec = big_spec()
    student, mesh = FunctionalStudent(spec.student), mesh_of(1, 8, 1)
    state = step.abstract_state(student, config_of(shapes.QWEN2_PROMPT, rules), mesh)
    # 28 layers, each with W_q, W_o, W_k, W_v and three MLP matrices; two tables.
    llm = 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944) + 2 * 152064 * 3584
    assert shapes.shard_bytes(state["params"]["llm"]) == pytest.approx(
        bytes_a_parameter * llm / 8, rel=1e-3
    )
    trained, _ = optim_lib.split(state["params"], rules)
    moments = shapes.shard_bytes(state["opt_state"])
    assert moments == pytest.approx(2 * shapes.shard_bytes(trained), abs=64)
