"""Video Swin and ConvNeXt-3D in torch, under the official names, for comparison with ours.

Written the way the official programs are: channels first for convolutions, windows cut out and
attended in one batch. What depends on sizes alone is computed once and kept.
"""

import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vqa_jax.models.convnext3d import ConvNext3dConfig
from vqa_jax.models.swin3d import Swin3dConfig


def _cut(x: torch.Tensor, window: tuple[int, ...]) -> torch.Tensor:
    """[B, T, H, W, C] -> [B * windows, tokens, C]."""
    B, T, H, W, C = x.shape
    t, h, w = window
    x = x.view(B, T // t, t, H // h, h, W // w, w, C)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, t * h * w, C)


def _paste(cut: torch.Tensor, window: tuple[int, ...], shape: torch.Size) -> torch.Tensor:
    """The inverse."""
    B, T, H, W, C = shape
    t, h, w = window
    x = cut.view(B, T // t, H // h, W // w, t, h, w, C)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, T, H, W, C)


class Attention(nn.Module):
    """Attention in windows with gated position bias."""

    def __init__(self, cfg: Swin3dConfig, width: int, heads: int, gated: bool, shifted: bool):
        super().__init__()
        self.cfg, self.heads, self.shifted = cfg, heads, shifted
        rows = math.prod(2 * w - 1 for w in cfg.window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
        self.fragment_position_bias_table = (
            nn.Parameter(torch.zeros(rows, heads)) if gated else None
        )
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self._known: dict[torch.Size, tuple] = {}

    def _constants(self, shape: torch.Size) -> tuple:
        """(window, shift, table rows [N, N], gate and mask [windows, 1, N, N] or None)."""
        if shape in self._known:
            return self._known[shape]
        sizes, full = shape[1:4], self.cfg.window
        window = tuple(map(min, full, sizes))
        shift = tuple(
            0 if s <= w or not self.shifted else w // 2 for s, w in zip(sizes, full, strict=True)
        )
        places = torch.cartesian_prod(*(torch.arange(w) for w in window))
        offset = places[:, None] - places[None] + torch.tensor(full) - 1
        strides = torch.tensor([(2 * full[1] - 1) * (2 * full[2] - 1), 2 * full[2] - 1, 1])
        rows = (offset * strides).sum(-1)
        back = [-s for s in shift]
        gate = torch.zeros(())
        for axis, parts in zip((1, 2), self.cfg.fragments, strict=True):
            index = torch.arange(sizes[axis]) * parts // sizes[axis]
            index = index.view([-1 if a == axis else 1 for a in range(3)]).expand(sizes)
            index = _cut(index.roll(back, (0, 1, 2))[None, ..., None].float(), window)[..., 0]
            gate = gate + (index[:, None, :, None] - index[:, None, None, :]).abs()
        mask = None
        if any(shift):
            region = torch.zeros(1, *sizes, 1)
            number = 0
            halves = [(slice(0, -s), slice(-s, None)) if s else (slice(None),) for s in shift]
            for t in halves[0]:
                for h in halves[1]:
                    for w in halves[2]:
                        region[:, t, h, w] = number
                        number += 1
            region = _cut(region, window)[..., 0]
            apart = region[:, None, :, None] != region[:, None, None, :]
            mask = torch.where(apart, -100.0, 0.0)
        self._known[shape] = window, shift, rows, gate, mask
        return self._known[shape]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        window, shift, rows, gate, mask = self._constants(x.shape)
        if any(shift):
            x = x.roll([-s for s in shift], (1, 2, 3))
        tokens = _cut(x, window)
        count, N, C = tokens.shape
        q, k, v = self.qkv(tokens).view(count, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[rows].permute(2, 0, 1)[None]
        if self.fragment_position_bias_table is not None:
            fragment = self.fragment_position_bias_table[rows].permute(2, 0, 1)[None]
            bias = bias * gate + fragment * (1 - gate)
        windows = count // x.shape[0]
        logits = logits.view(-1, windows, self.heads, N, N) + bias
        if mask is not None:
            logits = logits + mask
        y = logits.view(-1, self.heads, N, N).softmax(-1) @ v
        y = _paste(self.proj(y.transpose(1, 2).reshape(count, N, C)), window, x.shape)
        return y.roll(shift, (1, 2, 3)) if any(shift) else y


class SwinBlock(nn.Module):
    """Attention, then an MLP."""

    def __init__(self, cfg: Swin3dConfig, width: int, heads: int, gated: bool, shifted: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(cfg, width, heads, gated, shifted)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Merging(nn.Module):
    """2x2 tokens to one."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Swin3d(nn.Module):
    """Clips [B, T, H, W, 3] to maps [B, T / 2, H / 32, W / 32, D]."""

    def __init__(self, cfg: Swin3dConfig):
        super().__init__()
        size, width = cfg.patch_size, cfg.embed_dim
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv3d(3, width, size, size), "norm": nn.LayerNorm(width)}
        )
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(cfg.num_layers):
            heads, gated = cfg.num_heads[stage], cfg.gated[stage]
            blocks = [SwinBlock(cfg, width, heads, gated, bool(i % 2)) for i in range(depth)]
            layer = nn.ModuleDict({"blocks": nn.Sequential(*blocks)})
            if stage < len(cfg.num_layers) - 1:
                layer["downsample"] = Merging(width)
                width *= 2
            self.layers.append(layer)
        self.norm = nn.LayerNorm(width)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](clips.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        x = self.patch_embed["norm"](x.contiguous())
        for layer in self.layers:
            for part in layer.values():
                x = part(x)
        return self.norm(x)


class ConvNextBlock(nn.Module):
    """Depthwise convolution with channels first, MLP with channels last."""

    def __init__(self, width: int, frames: int):
        super().__init__()
        self.dwconv = nn.Conv3d(
            width, width, (frames, 7, 7), padding=(frames // 2, 3, 3), groups=width
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 4, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 4, 1, 2, 3)


class FirstNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, T, H, W]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class ConvNext3d(nn.Module):
    """Clips [B, T, H, W, 3] to maps [B, T / 2, H / 32, W / 32, D]."""

    def __init__(self, cfg: ConvNext3dConfig):
        super().__init__()
        dims, half = cfg.dims, (1, 2, 2)
        stem = nn.Sequential(
            nn.Conv3d(3, dims[0], cfg.stem_size, cfg.stem_size), FirstNorm(dims[0], eps=1e-6)
        )
        self.downsample_layers = nn.ModuleList([stem])
        for d_in, d_out in itertools.pairwise(dims):
            self.downsample_layers.append(
                nn.Sequential(FirstNorm(d_in, eps=1e-6), nn.Conv3d(d_in, d_out, half, half))
            )
        spans = cfg.temporal_sizes
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNextBlock(width, spans[i % len(spans)]) for i in range(depth)))
            for width, depth in zip(dims, cfg.num_layers, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        x = clips.permute(0, 4, 1, 2, 3)
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
        return self.norm(x.permute(0, 2, 3, 4, 1))


class Branch(nn.Module):
    """A backbone and its head: uint8 clips [B, T, H, W, 3] to scores [B]."""

    def __init__(self, backbone: nn.Module, width: int, hidden: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict(
            {"fc_hid": nn.Conv3d(width, hidden, 1), "fc_last": nn.Conv3d(hidden, 1, 1)}
        )
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53]), persistent=False)
        self.register_buffer("std", torch.tensor([58.395, 57.12, 57.375]), persistent=False)

    def score_map(self, clips: torch.Tensor) -> torch.Tensor:
        """[B, T / 2, H / 32, W / 32]."""
        features = self.backbone((clips.float() - self.mean) / self.std)
        hidden = F.gelu(self.head["fc_hid"](features.permute(0, 4, 1, 2, 3)))
        return self.head["fc_last"](hidden)[:, 0]

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.score_map(clips).mean((1, 2, 3))


def branch(backbone: nn.Module, width: int, hidden: int, name: str, state: dict) -> Branch:
    """A branch of DOVER ("technical" or "aesthetic") with the weights of official names."""
    model = Branch(backbone, width, hidden)
    mine = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part in (f"{name}_backbone", f"{name}_head"):
            ours = f"{part.removeprefix(name + '_')}.{rest}"
            mine[ours] = torch.from_numpy(np.array(value))
    own = model.state_dict()
    model.load_state_dict({key: value.reshape(own[key].shape) for key, value in mine.items()})
    return model.eval()
