"""The pair student: sizes, prefix cache, padding, auxiliary head, weights in and out."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import execution
from vqa_jax.exchange.dialects import DIALECTS, guess_dialect, ignored, student_rules
from vqa_jax.exchange.student_io import foreign_state, load_student, save_student
from vqa_jax.models import prompt
from vqa_jax.models.attention import attention
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.qwen2 import KVCache, Qwen2Config, prefix_positions
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import Student, StudentConfig, count_parameters
from vqa_jax.weights.reader import WeightsError

VOCAB = 64
MICRO = StudentConfig(
    vision=SiglipConfig(
        image_size=20, patch_size=4, embed_dim=16, mlp_dim=24, num_heads=2, num_layers=2
    ),
    llm=Qwen2Config(
        num_layers=2,
        embed_dim=24,
        mlp_dim=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        vocab_size=VOCAB,
        rope_theta=1e4,
    ),
    motion_dim=6,
    num_severity_classes=3,
)


@pytest.fixture(scope="module")
def student():
    return Student(MICRO, nnx.Rngs(0))


@pytest.fixture(scope="module")
def pair():
    """One pair: 2 and 1 frames, 2 and 3 motion tokens, in a bank of 2 frames and 3 tokens."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, 2, 2, 20, 20, 3), dtype=np.uint8)
    motion = rng.normal(size=(1, 2, 3, 6)).astype(np.float32)
    P = MICRO.tokens_per_frame
    ids = prompt.scoring_ids(prompt.tiny_tokenizer())
    return frames, motion, prompt.layout(ids, [2 * P, P], [2, 3], prompt.Bank(2 * P, 3))


@pytest.mark.parametrize("size", ["0_5b", "7b"])
def test_published_sizes_have_the_published_parameters(shared, size):
    shapes = json.loads((shared / f"checkpoints/qwen2_{size}.w2s.json").read_text())
    cfg, expected = PRESETS[f"ov_{size}"], {}
    parts = {
        "vision": r"model\.vision_tower\.",
        "vision_projector": r"model\.mm_projector\.",
        "motion_projector": r"model\.slowfast_projector\.",
        "newline": r"model\.image_newline",
        "llm": r"model\.(layers|norm|embed_tokens)\.|lm_head",
    }
    for key, shape in shapes.items():
        unused = "post_layernorm" in key or (cfg.llm.tie_embeddings and key == "lm_head.weight")
        part = next(name for name, pattern in parts.items() if re.match(pattern, key))
        expected[part] = expected.get(part, 0) + (0 if unused else int(np.prod(shape)))
    assert count_parameters(cfg) == expected
    if size == "7b":
        assert 8.0e9 < sum(expected.values()) < 8.1e9


@pytest.mark.parametrize("size", ["0_5b", "7b"])
@pytest.mark.parametrize("names", ["w2s", "original", "hf", "hf_before_4_52"])
def test_rules_match_every_circulating_checkpoint_key_for_key(shared, size, names):
    shapes = json.loads((shared / f"checkpoints/qwen2_{size}.{names}.json").read_text())
    cfg = PRESETS[f"ov_{size}"]
    dialect = guess_dialect(set(shapes))
    assert dialect == ("original" if names == "w2s" else names)
    abstract = nnx.state(nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))).flat_state()
    own = {tuple(path): leaf.shape for path, leaf in abstract}
    rules = student_rules(cfg, dialect)
    assert sorted(rule.path for rule in rules) == sorted(own)  # each of ours exactly once
    wanted = {
        key: list(rule.foreign_shape(own[rule.path]))
        for rule in rules
        for key in rule.keys(own[rule.path])
        if names == "w2s" or rule.path[0] != "motion_projector"
    }
    skip = ignored(cfg, dialect)
    theirs = {key: shape for key, shape in shapes.items() if not skip.fullmatch(key)}
    if cfg.llm.tie_embeddings:
        theirs.pop(f"{DIALECTS[dialect].head}.weight")
    assert wanted == theirs


def test_published_size_runs_abstractly_end_to_end():
    cfg = PRESETS["ov_7b"]
    student = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    assert cfg.tokens_per_frame == 196
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in [
            ((2, 2, 8, 384, 384, 3), jnp.uint8),
            ((2, 2, 8, 256), jnp.float32),
            ((2, 4096), jnp.int32),
            ((2, 14), jnp.int32),
        ]
    ]
    logits = nnx.eval_shape(lambda s, *args: s(*args), student, *shapes)
    assert logits.shape == (2, 14, 152064) and logits.dtype == jnp.float32


def test_every_parameter_names_its_axes_and_any_mesh_will_do(student):
    named = nnx.state(student, nnx.Param).flat_state()
    for path, leaf in named:
        names = leaf.get_metadata()["out_sharding"]
        assert len(names) == leaf[...].ndim, path
        assert ("layers" in path) == (names[0] == "layers"), path
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):  # which has none of these names
        again = nnx.eval_shape(lambda: Student(MICRO, nnx.Rngs(0)))
    assert again.llm.layers.wq.shape == student.llm.layers.wq.shape


def test_cached_prefix_gives_the_uncached_logits(student, pair):
    frames, motion, laid = pair
    cut, size = laid.prefix_len, len(laid.tokens)

    @nnx.jit
    def both(student, frames, motion, tokens):
        visual = student.encode_videos(frames[0], motion[0])
        embeds = student.merge(tokens, visual.reshape(1, -1, visual.shape[-1]))
        steps = jnp.arange(size)[None]
        whole, _ = student.hidden(embeds, steps)
        # The first video alone fills the cache, in a buffer with 5 padded slots.
        alone = student.encode_videos(frames[0, :1], motion[0, :1])
        prefix = student.merge(jnp.pad(tokens[:, :cut], ((0, 0), (0, 5))), alone)
        _, cache = student.hidden(prefix, prefix_positions(jnp.array([cut]), cut + 5))
        rest, full = student.hidden(embeds[:, cut:], steps[:, cut:], cache)
        late, _ = student.hidden(embeds[:, cut:], steps[:, cut:] + 1, cache)
        return [student.llm.logits(h) for h in (whole[:, cut:], rest, late)], cache, full

    (whole, rest, late), cache, full = both(student, frames, motion, laid.tokens[None])
    np.testing.assert_allclose(rest, whole, **TOLERANCES["cached_logits"])
    assert np.abs(late - whole).max() > 10 * TOLERANCES["cached_logits"]["atol"]
    assert isinstance(cache, KVCache) and cache.keys.shape == (2, 1, cut + 5, 2, 8)
    assert full.values.shape == (2, 1, size + 5, 2, 8)


def test_a_row_does_not_depend_on_padding_nor_on_its_neighbours(student, pair):
    frames, motion, laid = pair
    noisy_frames, noisy_motion = frames.copy(), motion.copy()
    noisy_frames[0, 1, 1], noisy_motion[0, 0, 2] = 255 - frames[0, 1, 1], 9.0  # unreferenced
    tokens = np.pad(laid.tokens[None], ((0, 0), (0, 7)), constant_values=11)
    other = np.where(tokens >= 0, (tokens + 1) % VOCAB, tokens)
    args = (
        np.concatenate([frames, noisy_frames, frames]),
        np.concatenate([motion, noisy_motion, motion]),
        np.concatenate(
            [tokens, np.where(np.arange(tokens.shape[1]) < len(laid.tokens), tokens, 3), other]
        ),
        np.repeat(laid.answer_pos[None], 3, 0),
    )
    logits = np.asarray(nnx.jit(lambda s, *a: s(*a))(student, *args))
    np.testing.assert_allclose(logits[1], logits[0], **TOLERANCES["cached_logits"])
    assert np.abs(logits[2] - logits[0]).max() > 1e-3


def test_severity_is_linear_on_the_mean_of_real_frames(student, pair):
    frames, motion, laid = pair
    mask = np.array([[[1, 1], [1, 0]]])
    out = nnx.jit(lambda s, *a: s.forward(*a))(
        student, frames, motion, laid.tokens[None], laid.answer_pos[None], mask
    )
    tower = np.asarray(student.tower_tokens(frames))
    kernel, bias = np.asarray(student.severity_kernel[...]), np.asarray(student.severity_bias[...])
    means = np.stack([tower[0, 0].mean((0, 1)), tower[0, 1, 0].mean(0)])
    np.testing.assert_allclose(out.severity[0], means @ kernel + bias, rtol=1e-4, atol=1e-5)
    plain = Student(dataclasses.replace(MICRO, num_severity_classes=0), nnx.Rngs(0))
    with pytest.raises(ValueError, match="num_severity_classes"):
        plain.severity_logits(tower)


@pytest.mark.parametrize("policy", ["full", "attention", "dots"])
def test_remat_and_unroll_change_no_gradient(student, pair, policy):
    frames, motion, laid = pair

    @nnx.jit
    def gradients(*students):
        def loss(s, remat):
            with execution.executing(execution.Execution(remat=remat)):
                logits = s(frames, motion, laid.tokens[None], laid.answer_pos[None])
            return jax.nn.log_softmax(logits)[0, 0, 5]

        policies = ("none", policy)
        return [nnx.grad(loss)(s, p) for s, p in zip(students, policies, strict=True)]

    cfg = dataclasses.replace(
        MICRO,
        vision=dataclasses.replace(MICRO.vision, unroll=2),
        llm=dataclasses.replace(MICRO.llm, unroll=2),
    )
    twin = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    nnx.update(twin, nnx.state(student))
    plain, changed = gradients(student, twin)
    assert float(jnp.abs(plain.vision.patch_kernel[...]).max()) > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCES["student_gradient"]),
        plain,
        changed,
    )


def test_attention_by_brute_force():
    rng = np.random.default_rng(1)
    q = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, 5, 2, 3)).astype(np.float32)
    mask = rng.random((2, 4, 5)) < 0.6
    mask[..., 0] = True
    expected = np.zeros_like(q)
    for b, i, head in np.ndindex(2, 4, 6):
        seen = np.flatnonzero(mask[b, i])
        scores = np.exp(k[b, seen, head // 3] @ q[b, i, head] / np.sqrt(3))
        expected[b, i, head] = scores / scores.sum() @ v[b, seen, head // 3]
    np.testing.assert_allclose(attention(q, k, v, mask), expected, rtol=1e-5, atol=1e-6)


def test_initial_model_is_undecided_and_sees_its_input(student, pair):
    frames, motion, laid = pair
    many = np.concatenate([frames, np.zeros_like(frames)])
    logits = nnx.jit(lambda s, *a: s(*a))(
        student,
        many,
        np.repeat(motion, 2, 0),
        np.repeat(laid.tokens[None], 2, 0),
        np.repeat(laid.answer_pos[None], 2, 0),
    )
    probability = np.asarray(jax.nn.softmax(logits[:, 0]))
    assert probability.min() > 0.2 / VOCAB and probability.max() < 5 / VOCAB
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_frames_of_another_size_are_refused(student):
    with pytest.raises(ValueError, match="20"):
        student.tower_tokens(np.zeros((1, 24, 24, 3), np.uint8))


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_round_trip_in_one_file_and_in_shards(tmp_path, tied):
    cfg = dataclasses.replace(MICRO, llm=dataclasses.replace(MICRO.llm, tie_embeddings=tied))
    saved = Student(cfg, nnx.Rngs(1))
    save_student(saved, tmp_path / "one.safetensors")
    _same(load_student(tmp_path / "one.safetensors", cfg), saved)

    shards = tmp_path / "shards"
    shards.mkdir()
    tensors = foreign_state(saved, "hf")
    if tied:
        tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
    names = sorted(tensors)
    for number, keys in enumerate((names[::2], names[1::2])):
        save_file({key: tensors[key] for key in keys}, shards / f"{number}.safetensors")
    index = {key: f"{position % 2}.safetensors" for position, key in enumerate(names)}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    _same(load_student(shards, cfg), saved)


def test_every_misfit_is_listed_and_known_extras_are_ignored(tmp_path, student):
    file = tmp_path / "student.safetensors"
    save_student(student, file)
    good = load_file(file)
    vision = DIALECTS["original"].vision
    extras = {
        key: np.zeros(2, np.float32)
        for key in (
            f"{vision}post_layernorm.weight",
            f"{vision}head.probe",
            f"{vision}encoder.layers.2.mlp.fc1.bias",
            "model.slowfast.blocks.0.weight",
        )
    }
    save_file(good | extras, file)
    _same(load_student(file, MICRO), student)

    bad = good | {"model.layers.2.mlp.up_proj.weight": good["model.norm.weight"]}
    del bad["model.image_newline"]
    bad["model.mm_projector.0.weight"] = np.ascontiguousarray(bad["model.mm_projector.0.weight"].T)
    save_file(bad, file)
    with pytest.raises(WeightsError) as caught:
        load_student(file, MICRO)
    assert caught.value.problems == {
        "missing": ["model.image_newline"],
        "unexpected": ["model.layers.2.mlp.up_proj.weight"],
        "misshapen": ["model.mm_projector.0.weight: (16, 24) instead of (24, 16)"],
    }
    assert str(file) in str(caught.value)


def test_duplicates_broken_files_and_untied_heads_are_refused(tmp_path, student):
    folder = tmp_path / "twice"
    folder.mkdir()
    tensors = foreign_state(student)
    save_file(tensors, folder / "a.safetensors")
    save_file({"model.norm.weight": tensors["model.norm.weight"]}, folder / "b.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_student(folder, MICRO)
    assert caught.value.problems == {"duplicate": ["model.norm.weight"]}

    (folder / "b.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"b\.safetensors"):
        load_student(folder, MICRO)

    tied = dataclasses.replace(MICRO, llm=dataclasses.replace(MICRO.llm, tie_embeddings=True))
    with pytest.raises(WeightsError, match="tie_embeddings=False"):
        load_student(folder / "a.safetensors", tied)


def test_parts_start_from_scratch_only_when_asked(tmp_path, student):
    file = tmp_path / "base.safetensors"
    tensors = {
        key: value
        for key, value in foreign_state(student).items()
        if "slowfast" not in key and not key.startswith("severity")
    }
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="slowfast_projector"):
        load_student(file, MICRO)
    loaded = load_student(file, MICRO, keep_initial=["motion_projector", "severity"], seed=0)
    _same(loaded, student)  # the same seed drew both
