"""Qwen3, Qwen3-VL's language part and SigLIP2: random torch models, loaded and compared.

Key lists of published sizes are those of transformers' own modules, made without their numbers.
"""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from tests.fixtures.foreign_student import header_only
from tests.fixtures.tolerances import TOLERANCES
from tests.fixtures.torch_models import randomised
from vqa_jax.exchange import llava_folder
from vqa_jax.exchange.sizes import student_config
from vqa_jax.exchange.student_io import load_params, load_student, match_student
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.pairs.levels import LEVELS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDE, FRAMES, VOCAB, VIDEO_TOKEN = 20, 2, 64, 61
LOGITS = TOLERANCES["level_logits"]
FRESH = ["vision_projector", "motion_projector", "newline"]
# 4 heads of 8 are wider than the 24 numbers of a token, as in Qwen3-0.6B.
DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}


def _tower_config(**changes):
    fields = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 4,
    }
    return transformers.SiglipVisionConfig(**{**fields, **changes})


def _pixels(frames):
    return torch.movedim((torch.tensor(frames).float() / 255 - 0.5) / 0.5, -1, -3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A random student with a decoder of Qwen3: folder, frames, token ids, torch's logits."""
    config = transformers.LlavaOnevisionConfig(
        vision_config=_tower_config(),
        text_config=transformers.Qwen3Config(**DECODER),
        image_token_index=60,
        video_token_index=VIDEO_TOKEN,
        vision_feature_layer=-2,
    )
    model = randomised(transformers.LlavaOnevisionForConditionalGeneration(config))
    folder = tmp_path_factory.mktemp("pair")
    model.save_pretrained(folder)
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (2, FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    video = [VIDEO_TOKEN] * (FRAMES * 9 + 1)
    ids = np.array([5, 6, *video, 7, *video, 8, 9, 10])
    with torch.no_grad():
        out = model(input_ids=torch.tensor(ids)[None], pixel_values_videos=_pixels(frames))
    return folder, frames, ids, out.logits[0].numpy()


def test_level_logits_of_a_pair_are_torchs(pair):
    folder, frames, ids, logits = pair
    student = load_student(folder, keep_initial=["motion_projector"])
    assert student.cfg.llm.qk_norm and student.cfg.llm.head_dim == 8
    per_video = FRAMES * 9 + 1  # the one motion token of each video's bank is left out
    tokens = ids.astype(np.int32)
    bank = np.concatenate([v * (per_video + 1) + np.arange(per_video) for v in (0, 1)])
    tokens[ids == VIDEO_TOKEN] = -(1 + bank)
    motion = np.zeros((1, 2, 1, student.cfg.motion_dim), np.float32)
    levels = np.arange(20, 20 + len(LEVELS), dtype=np.int32)
    last = np.array([[len(ids) - 1]], np.int32)
    found = nnx.jit(lambda s, *inputs: s.level_logits(*inputs))(
        student, frames[None], motion, tokens[None], last, levels
    )
    assert np.ptp(logits[-1, levels]) > 0.1
    np.testing.assert_allclose(found[0], logits[-1, levels], **LOGITS)


@nnx.jit
def _logits(llm, ids):
    steps = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    return llm.logits(llm.hidden(llm.embed(ids), steps)[0])


def _saved_decoder(kind, folder):
    """A random decoder as it circulates, and its logits of some text."""
    if kind == "qwen3_vl":
        config = transformers.Qwen3VLConfig(
            text_config={
                **DECODER,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 5e6,
                    "mrope_section": [2, 1, 1],
                    "mrope_interleaved": True,
                },
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 24,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
        )
        model = transformers.Qwen3VLForConditionalGeneration(config)
    else:
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER))
    randomised(model).save_pretrained(folder)
    ids = np.random.default_rng(3).integers(0, VOCAB - 4, (1, 12))
    with torch.no_grad():
        return ids, model(input_ids=torch.tensor(ids)).logits.numpy()


@pytest.mark.parametrize("kind", [pytest.param("qwen3", marks=pytest.mark.slow), "qwen3_vl"])
def test_decoders_behind_siglip2_give_torchs_numbers(kind, tmp_path):
    """SigLIP2 of fixed resolution is SigLIP's module; its folder has a text side of its own."""
    text = {
        "vocab_size": 80,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = transformers.SiglipConfig(
        text_config=text, vision_config=_tower_config(vision_use_head=True).to_dict()
    )
    tower = randomised(transformers.SiglipModel(config))
    tower.save_pretrained(tmp_path / "siglip2")
    ids, logits = _saved_decoder(kind, tmp_path / kind)
    frames = np.random.default_rng(2).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    with torch.no_grad():
        states = tower.vision_model(_pixels(frames), output_hidden_states=True).hidden_states
    student = load_student([tmp_path / "siglip2", tmp_path / kind], keep_initial=FRESH)
    assert student.cfg.llm.rope_theta == (5e6 if kind == "qwen3_vl" else 1e4)
    tower_tokens = nnx.jit(lambda s, frames: s.tower_tokens(frames))(student, frames)
    np.testing.assert_allclose(tower_tokens, states[-2].numpy(), **LOGITS)
    assert np.ptp(logits) > 1
    np.testing.assert_allclose(_logits(student.llm, ids), logits, **LOGITS)


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_transformers_loads_the_exported_decoder(pair, tmp_path, tied):
    """Without a stray or missing key, and what lies beside it comes back too."""
    folder = pair[0]
    cfg = student_config(folder)
    params = load_params(folder, cfg, keep_initial=["motion_projector"])
    if tied:
        cfg = dataclasses.replace(cfg, llm=dataclasses.replace(cfg.llm, tie_embeddings=True))
        llm = {name: value for name, value in params["llm"].items() if name != "head"}
        params = {**params, "llm": llm}
    llava_folder.write(str(tmp_path), cfg, params, "decoder")
    kind = transformers.Qwen3ForCausalLM
    model, report = kind.from_pretrained(tmp_path / "decoder", output_loading_info=True)
    problems = {name: keys for name, keys in report.items() if keys}
    assert not problems, problems
    ids = np.random.default_rng(3).integers(0, VOCAB, (1, 12))
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor(ids)).logits.numpy()
    back = load_params(tmp_path, cfg)
    student = FunctionalStudent(cfg).bind(back)
    np.testing.assert_allclose(_logits(student.llm, ids), logits, **LOGITS)
    np.testing.assert_array_equal(back["vision"]["position"], params["vision"]["position"])
    beside = load_file(tmp_path / llava_folder.NAMES["decoder"].other)
    assert not any(key.startswith("model.layers.") for key in beside)


@pytest.mark.slow
def test_transformers_loads_the_exported_pair(pair, tmp_path):
    folder, frames, ids, logits = pair
    cfg = student_config(folder)
    params = load_params(folder, cfg, keep_initial=["motion_projector"])
    llava_folder.write(str(tmp_path), cfg, params, "hf")
    kind = transformers.LlavaOnevisionForConditionalGeneration
    model, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    problems = {name: keys for name, keys in report.items() if keys}
    assert not problems, problems
    model.eval()
    # The special tokens are the vocabulary's last ones here: give it those of the prompt.
    model.config.image_token_id, model.config.video_token_id = 60, VIDEO_TOKEN
    with torch.no_grad():
        found = model(input_ids=torch.tensor(ids)[None], pixel_values_videos=_pixels(frames))
    np.testing.assert_allclose(found.logits[0].numpy(), logits, **LOGITS)


def _published(preset, vl):
    """transformers' config of a preset's decoder, or of the Qwen3-VL that has it."""
    llm = PRESETS[preset].llm
    sizes = {
        "vocab_size": llm.vocab_size,
        "hidden_size": llm.embed_dim,
        "intermediate_size": llm.mlp_dim,
        "num_hidden_layers": llm.num_layers,
        "num_attention_heads": llm.num_heads,
        "num_key_value_heads": llm.num_kv_heads,
        "head_dim": llm.head_dim,
    }
    if not vl:
        rope = {"rope_type": "default", "rope_theta": llm.rope_theta}
        tied = llm.tie_embeddings
        return transformers.Qwen3Config(**sizes, rope_parameters=rope, tie_word_embeddings=tied)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
    text = {**sizes, "rope_parameters": {**rope, "mrope_interleaved": True}}
    vision = {"depth": 2, "deepstack_visual_indexes": [0], "out_hidden_size": llm.embed_dim}
    return transformers.Qwen3VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=llm.tie_embeddings
    )


@pytest.mark.parametrize(
    ("preset", "vl"),
    [
        ("qwen3_siglip2_4b", True),
        pytest.param("qwen3_siglip2_8b", False, marks=pytest.mark.slow),
        pytest.param("qwen3_siglip2_0_6b", False, marks=pytest.mark.slow),
        pytest.param("qwen3_siglip2_4b", False, marks=pytest.mark.slow),
    ],
)
def test_published_sizes_have_transformers_keys_and_shapes(preset, vl, tmp_path):
    """A whole student of files that hold headers alone: no key is stray, none is lacking."""
    kind = transformers.Qwen3ForCausalLM
    if vl:
        kind = transformers.Qwen3VLForConditionalGeneration
    text = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}
    tower = transformers.SiglipConfig(
        text_config={**text, "num_hidden_layers": 27, "vocab_size": 256000},
        vision_config={**text, "num_hidden_layers": 27, "image_size": 384, "patch_size": 14},
    )
    for name, model, config in (
        ("tower", transformers.SiglipModel, tower),
        ("decoder", kind, _published(preset, vl)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with torch.device("meta"):
            made = model(config)
        shapes = {key: list(value.shape) for key, value in made.state_dict().items()}
        if name == "decoder" and PRESETS[preset].llm.tie_embeddings:
            shapes.pop("lm_head.weight")  # its bytes are compared when loading; here are none
        header_only(folder / "model.safetensors", shapes)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
    folders = [tmp_path / "tower", tmp_path / "decoder"]
    cfg = student_config(folders)
    theta = 5e6 if vl else 1e6
    wanted = PRESETS[preset]
    llm = dataclasses.replace(wanted.llm, rope_theta=theta)
    assert cfg == dataclasses.replace(wanted, llm=llm, compute_dtype="float32")
    source = match_student(folders, cfg, FRESH)
    assert {path[0] for path in source.found} == {"vision", "llm"}
