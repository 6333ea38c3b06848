"""Random small torch models of every kind, saved as they circulate, loaded and compared."""

import pathlib
import sys
import types

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from launch import convert_slowfast
from tests.fixtures.tolerances import TOLERANCES
from tests.fixtures.torch_models import randomised
from vqa_jax.exchange import llava_folder as export_names
from vqa_jax.exchange.sizes import student_config
from vqa_jax.exchange.student_io import load_params, load_student
from vqa_jax.motion import weights

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDE, FRAMES, VOCAB, VIDEO_TOKEN = 20, 2, 64, 61
LOGITS = TOLERANCES["level_logits"]


def _tower_config():
    return transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=4,
    )


def _decoder_config():
    return transformers.Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )


def _frames(seed, *lead):
    return np.random.default_rng(seed).integers(0, 256, (*lead, SIDE, SIDE, 3), dtype=np.uint8)


def _pixels(frames):
    scaled = torch.tensor(frames).float() / 255
    return torch.movedim((scaled - 0.5) / 0.5, -1, -3)


@pytest.fixture(scope="module")
def onevision(tmp_path_factory):
    """A random LLaVA-OneVision: its folder, a pair of videos, token ids, torch's logits."""
    config = transformers.LlavaOnevisionConfig(
        vision_config=_tower_config(),
        text_config=_decoder_config(),
        image_token_index=60,
        video_token_index=VIDEO_TOKEN,
        vision_feature_layer=-2,
    )
    model = randomised(transformers.LlavaOnevisionForConditionalGeneration(config))
    folder = tmp_path_factory.mktemp("onevision")
    model.save_pretrained(folder)
    frames, per_video = _frames(1, 2, FRAMES), FRAMES * 9 + 1
    ids = np.array([5, 6, *[VIDEO_TOKEN] * per_video, 7, *[VIDEO_TOKEN] * per_video, 8, 9, 10])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(ids)[None], pixel_values_videos=_pixels(frames))
    return folder, frames, ids, logits.logits[0].numpy()


def _our_logits(student, frames, ids):
    """Logits after every token; the one motion token of each video's bank is left out."""
    per_video = FRAMES * 9 + 1
    tokens = ids.astype(np.int32)
    bank = np.concatenate([v * (per_video + 1) + np.arange(per_video) for v in (0, 1)])
    tokens[ids == VIDEO_TOKEN] = -(1 + bank)
    motion = np.zeros((1, 2, 1, student.cfg.motion_dim), np.float32)
    return student(frames[None], motion, tokens[None], np.arange(len(ids))[None])[0]


def test_onevision_gives_torchs_logits(onevision):
    folder, frames, ids, logits = onevision
    student = load_student(folder, keep_initial=["motion_projector"])
    assert student.cfg.vision.num_layers == 2 and student.cfg.tokens_per_frame == 9
    found = np.asarray(_our_logits(student, frames, ids))
    assert np.ptp(logits) > 1
    np.testing.assert_allclose(found, logits, **LOGITS)


# From the names that this transformers writes to those of the other circulating checkpoints.
RENAMES = {
    "hf": {
        "vision_tower.": "model.vision_tower.vision_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
        "image_newline": "model.image_newline",
        "language_model.lm_head": "lm_head",
        "language_model.model.": "model.language_model.",
    },
    "hf_before_4_52": {"vision_tower.": "vision_tower.vision_model."},
    "original": {
        "vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "multi_modal_projector.linear_1": "model.mm_projector.0",
        "multi_modal_projector.linear_2": "model.mm_projector.2",
        "image_newline": "model.image_newline",
        "language_model.lm_head": "lm_head",
        "language_model.model.": "model.",
    },
}


@pytest.mark.parametrize("names", [*RENAMES, "w2s"])
def test_other_names_hold_the_same_student(onevision, tmp_path, names):
    folder = onevision[0]
    cfg = student_config(folder)
    want = load_params(folder, cfg, keep_initial=["motion_projector"])
    table = RENAMES["original" if names == "w2s" else names]
    tensors = {}
    for key, value in load_file(folder / "model.safetensors").items():
        old = next((prefix for prefix in table if key.startswith(prefix)), "")
        tensors[table.get(old, "") + key.removeprefix(old)] = value
    scratch = ["motion_projector"]
    if names == "w2s":  # the authors' own projector, and their motion network beside it
        scratch = []
        ours = want["motion_projector"]
        for layer, (kernel, bias) in {0: ("w_in", "b_in"), 2: ("w_out", "b_out")}.items():
            here = f"model.slowfast_projector.{layer}"
            tensors[f"{here}.weight"] = np.ascontiguousarray(np.asarray(ours[kernel]).T)
            tensors[f"{here}.bias"] = np.asarray(ours[bias])
        tensors["model.slowfast.blocks.0.weight"] = np.ones(3, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    found = load_params(tmp_path, cfg, keep_initial=scratch)
    torch_free = lambda tree: {  # noqa: E731
        key: torch_free(value) if isinstance(value, dict) else np.asarray(value)
        for key, value in tree.items()
    }
    np.testing.assert_equal(torch_free(found), torch_free(want))


@pytest.mark.parametrize("text_side", [False, True])
def test_siglip_and_qwen2_alone_make_a_student(tmp_path, text_side):
    tower = transformers.SiglipVisionModel(_tower_config())
    if text_side:
        text = transformers.SiglipTextConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=1,
            eos_token_id=2,
        )
        whole = transformers.SiglipModel(
            transformers.SiglipConfig(
                text_config=text.to_dict(), vision_config=_tower_config().to_dict()
            )
        )
        tower = whole.vision_model
    saved = randomised(whole if text_side else tower)
    saved.save_pretrained(tmp_path / "siglip")
    decoder = randomised(transformers.Qwen2ForCausalLM(_decoder_config()))
    decoder.save_pretrained(tmp_path / "qwen2")
    frames, ids = _frames(2, 3), np.random.default_rng(3).integers(0, VOCAB, (1, 12))
    with torch.no_grad():
        states = tower.eval()(_pixels(frames), output_hidden_states=True).hidden_states
        logits = decoder(input_ids=torch.tensor(ids)).logits.numpy()

    fresh = ["vision_projector", "motion_projector", "newline"]
    student = load_student([tmp_path / "siglip", tmp_path / "qwen2"], keep_initial=fresh)
    assert student.cfg.vision.num_layers == 2
    np.testing.assert_allclose(student.tower_tokens(frames), states[-2].numpy(), **LOGITS)
    hidden, _ = student.hidden(student.llm.embed(ids), np.arange(12, dtype=np.int32)[None])
    np.testing.assert_allclose(student.llm.logits(hidden), logits, **LOGITS)


@pytest.fixture
def create_slowfast(monkeypatch):
    """pytorchvideo's builder; it asks torchvision for one class, which is not used here."""
    stub, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    ops.RoIAlign = object
    monkeypatch.setitem(sys.modules, "torchvision", stub)
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    return pytest.importorskip("pytorchvideo.models.slowfast").create_slowfast


def test_slowfast_pickle_is_converted_and_gives_torchs_feature(create_slowfast, tmp_path):
    model = create_slowfast(
        model_depth=50,
        stem_dim_outs=(8, 1),
        model_num_class=5,
        slowfast_conv_channel_fusion_ratio=2,
        slowfast_channel_reduction_ratio=(8,),
    )
    randomised(model)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    torch.save({"model_state": model.state_dict(), "epoch": 3}, tmp_path / "hub.pyth")
    converted = [str(tmp_path / "hub.pyth"), str(tmp_path / "slowfast.safetensors")]
    assert convert_slowfast.main(converted) == 0
    assert len(load_file(tmp_path / "slowfast.safetensors")) == len(model.state_dict())

    clips = np.random.default_rng(4).integers(0, 256, (1, 8, 32, 32, 3), dtype=np.uint8)
    x = torch.movedim((torch.tensor(clips).float() / 255 - 0.45) / 0.225, -1, 1)
    with torch.no_grad():
        x = [x[:, :, ::4], x]
        for block in model.blocks[:5]:
            x = block(x)
    want = x[1].mean((2, 3, 4)).numpy()
    found = np.asarray(weights.load_features(tmp_path / "slowfast.safetensors")(clips))
    scale = np.abs(want).max()
    np.testing.assert_allclose(found / scale, want / scale, **TOLERANCES["motion"])


def test_pickles_that_run_code_or_are_no_slowfast_are_refused(tmp_path, capsys):
    class Attack:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "ran",))

    torch.save({"model_state": Attack()}, tmp_path / "attack.pyth")
    torch.save({"model_state": {"blocks.9.weight": torch.ones(1)}}, tmp_path / "other.pyth")
    for name, reason in (("attack", "weights_only"), ("other", r"blocks.0.multipathway_blocks.1")):
        arguments = [str(tmp_path / f"{name}.pyth"), str(tmp_path / "out.safetensors")]
        assert convert_slowfast.main(arguments) == 1
        assert reason in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attack.pyth", "other.pyth"]


@pytest.mark.parametrize("names", ["hf", "original"])
def test_torch_loads_what_is_exported(onevision, tmp_path, names):
    """Ours -> files -> transformers, strictly; hidden states of the tower, and logits, agree."""
    folder, frames, ids, logits = onevision
    student = load_student(folder, keep_initial=["motion_projector"])
    params = nnx.to_pure_dict(nnx.state(student, nnx.Param))
    export_names.write(str(tmp_path), student.cfg, params, names)
    if names == "original":  # transformers knows the port's names alone: rename, as its authors do
        tensors = load_file(tmp_path / "model.safetensors")
        assert not any("slowfast" in key for key in tensors)
        for new, old in RENAMES["original"].items():
            tensors = {
                (new + key.removeprefix(old) if key.startswith(old) else key): value
                for key, value in tensors.items()
            }
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        config = transformers.LlavaOnevisionConfig.from_pretrained(folder)
        config.vision_config.num_hidden_layers = student.cfg.vision.num_layers
        config.vision_config.vision_use_head = False
        config.vision_feature_layer = -1
        config.save_pretrained(tmp_path)
    kind = transformers.LlavaOnevisionForConditionalGeneration
    model, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    problems = {k: v for k, v in report.items() if v}
    assert not problems, problems
    model.eval()
    # The special tokens are the vocabulary's last ones here: give it those of the prompt.
    model.config.image_token_id, model.config.video_token_id = 60, VIDEO_TOKEN
    with torch.no_grad():
        states = model.model.vision_tower(_pixels(frames)[0], output_hidden_states=True)
        found = model(input_ids=torch.tensor(ids)[None], pixel_values_videos=_pixels(frames))
    ours = student.tower_tokens(frames[0])
    np.testing.assert_allclose(states.hidden_states[-1].numpy(), np.asarray(ours), **LOGITS)
    np.testing.assert_allclose(found.logits[0].numpy(), logits, **LOGITS)
