"""The same sizes in transformers: SDPA attention, bfloat16 autocast, layers under torch.compile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from launch.gpu_check import sizes as sizes_lib
from launch.gpu_check.sizes import Sizes
from vqa_jax.models.student import StudentConfig


def _projector(size_in: int, size_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size_in, size_out), nn.GELU(), nn.Linear(size_out, size_out))


class PairModel(nn.Module):
    """The student's parts from transformers; random weights."""

    def __init__(self, cfg: StudentConfig):
        super().__init__()
        v, llm = cfg.vision, cfg.llm
        self.grid = v.grid
        vision = SiglipVisionConfig(
            hidden_size=v.embed_dim,
            intermediate_size=v.mlp_dim,
            num_hidden_layers=v.num_layers,
            num_attention_heads=v.num_heads,
            image_size=v.image_size,
            patch_size=v.patch_size,
            vision_use_head=False,
            attn_implementation="sdpa",
        )
        decoder = Qwen2Config(
            vocab_size=llm.vocab_size,
            hidden_size=llm.embed_dim,
            intermediate_size=llm.mlp_dim,
            num_hidden_layers=llm.num_layers,
            num_attention_heads=llm.num_heads,
            num_key_value_heads=llm.num_kv_heads,
            tie_word_embeddings=llm.tie_embeddings,
            use_cache=False,
            attn_implementation="sdpa",
        )
        self.tower, self.llm = SiglipVisionModel(vision), Qwen2ForCausalLM(decoder)
        self.vision_projector = _projector(v.embed_dim, llm.embed_dim)
        self.motion_projector = _projector(cfg.motion_dim, llm.embed_dim)
        self.newline = nn.Parameter(torch.randn(llm.embed_dim) * llm.embed_dim**-0.5)
        # One layer is compiled and serves for all: a fraction of the time for the whole model.
        for module in self.modules():
            if type(module).__name__ in ("SiglipEncoderLayer", "Qwen2DecoderLayer"):
                module.compile()

    def encode(self, frames: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """Visual tokens [V, T, D] of frames uint8 [V, F, S, S, 3] and motion [V, M, Dm]."""
        pixels = frames.flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1
        tokens = self.vision_projector(self.tower(pixel_values=pixels).last_hidden_state)
        square = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        side = -(-self.grid // 2)
        pooled = F.interpolate(square, size=(side, side), mode="bilinear")
        tokens = pooled.flatten(2).transpose(1, 2).unflatten(0, frames.shape[:2]).flatten(1, 2)
        newline = self.newline.to(tokens.dtype).expand(len(frames), 1, -1)
        return torch.cat([tokens, newline, self.motion_projector(motion).to(tokens.dtype)], dim=1)

    def logits(
        self, tokens: torch.Tensor, visual: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, T, V] at positions int64 [B, T]; tokens as for `Student.merge`."""
        text = self.llm.get_input_embeddings()(tokens.clamp(min=0)).to(visual.dtype)
        index = (-1 - tokens).clamp(min=0)[..., None].expand(-1, -1, visual.shape[2])
        embeds = torch.where(tokens[..., None] >= 0, text, visual.gather(1, index))
        hidden = self.llm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        wanted = positions[..., None].expand(-1, -1, hidden.shape[2])
        return self.llm.lm_head(hidden.gather(1, wanted))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _model(sizes: Sizes) -> PairModel:
    torch.manual_seed(0)
    with _device():
        return PairModel(sizes.student)


def _facts() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"device": "cpu", "peak_bytes": None}
    return {
        "device": torch.cuda.get_device_name(),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def _timed(call: Callable[[], Any], repeats: int) -> tuple[float, list[float]]:
    """Seconds of the first call, which compiles, and of each later one."""
    seconds = []
    for _ in range(1 + repeats):
        begun = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1:]


def _autocast() -> torch.autocast:
    return torch.autocast(_device().type, torch.bfloat16)


def train(sizes: Sizes) -> dict[str, Any]:
    """Times training steps on the pair of `ours.train`, everything trained."""
    model = _model(sizes)
    made, _ = sizes_lib.training_batch(sizes)
    batch = {name: torch.from_numpy(value).to(_device()) for name, value in made.items()}
    tokens, answers = batch["tokens"].long(), batch["answer_pos"].long()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-5, weight_decay=0.05, fused=torch.cuda.is_available()
    )

    def step() -> float:
        with _autocast():
            visual = model.encode(batch["frames"][0], batch["motion"][0])
            logits = model.logits(tokens, visual.flatten(0, 1)[None], answers)
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch["answer_ids"].long().flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    first, seconds = _timed(step, sizes.repeats)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": sizes.tokens,
        "first_seconds": first,
        "seconds": float(np.median(seconds)),
        "flops": sizes_lib.training_flops(sizes, answers.shape[1]),
        "loss": float(step()),
        **_facts(),
    }


@torch.inference_mode()
def score(sizes: Sizes) -> dict[str, Any]:
    """Times the encoding of videos, and their comparisons with all anchors as whole pairs."""
    model = _model(sizes).eval()
    layout = sizes_lib.scoring_layout(sizes)
    tokens = torch.from_numpy(layout.tokens).long().to(_device()).expand(sizes.anchors, -1)
    positions = torch.from_numpy(layout.answer_pos).long().to(_device())
    positions = positions.expand(sizes.anchors, -1)

    def inputs(count: int, seed: int) -> tuple[torch.Tensor, ...]:
        columns = zip(*sizes_lib.made_up_videos(sizes, count, seed), strict=True)
        return tuple(torch.from_numpy(np.stack(column)).to(_device()) for column in columns)

    def encode(frames: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        with _autocast():
            return model.encode(frames, motion)

    videos = inputs(sizes.videos, 2)
    # Anchors go in a batch of the videos' size: a second size would be compiled for any size.
    anchors, encoded = encode(*inputs(sizes.videos, 1))[: sizes.anchors], encode(*videos)

    def compare() -> torch.Tensor:
        with _autocast():
            banks = [torch.cat([anchors, v.expand_as(anchors)], dim=1) for v in encoded]
            return torch.stack([model.logits(tokens, bank, positions)[:, 0] for bank in banks])

    encode_first, encode_seconds = _timed(lambda: encode(*videos), sizes.repeats)
    pairs_first, pairs_seconds = _timed(compare, sizes.repeats)
    count = sizes.videos * sizes.anchors * len(layout.tokens)
    decoding = sizes_lib.decoding_flops(sizes, cached=False)
    return {
        "videos": sizes.videos,
        "anchors": sizes.anchors,
        "first_seconds": encode_first + pairs_first,
        "encode": {
            "seconds": float(np.median(encode_seconds)),
            "flops": sizes_lib.encoding_flops(sizes),
            "tokens": None,
        },
        "pairs": {"seconds": float(np.median(pairs_seconds)), "flops": decoding, "tokens": count},
        **_facts(),
    }
