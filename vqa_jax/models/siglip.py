"""SigLIP vision tower, without its post-norm and head (method 4; Zhai et al. 2023)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.devices.execution import current, on_shards, recomputed, total
from vqa_jax.models.attention import Leading, attention, filled
from vqa_jax.models.layers import (
    axis_names,
    dense,
    fan_in,
    layer_norm,
    param,
    stacked,
    truncated_normal,
    zeros,
)
from vqa_jax.models.layers import ones as ones_init

# Weight of the layers -> how many of its axes are inputs (after `layers`).
INPUT_AXES = {"wq": 1, "wk": 1, "wv": 1, "wo": 2, "w_up": 1, "w_down": 1}


@dataclasses.dataclass(frozen=True)
class SiglipConfig:
    """Sizes of the tower. `num_layers` counts the layers that are computed (26 of so400m's 27)."""

    image_size: int
    patch_size: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_layers: int
    norm_eps: float = 1e-6
    unroll: int = 1  # layers per scan step: more is faster and compiles longer

    def __post_init__(self):
        """Refuses sizes that do not divide."""
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} is not num_heads {self.num_heads} equal ones"
            )
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size {self.patch_size} > image_size {self.image_size}")

    @property
    def grid(self) -> int:
        """Patches along a side; a rest smaller than a patch (384 = 27 * 14 + 6) is cut off."""
        return self.image_size // self.patch_size

    @property
    def token_grid(self) -> int:
        """Tokens along a side as the decoder reads them, after bilinear pooling (method 4)."""
        return -(-self.grid // 2)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads


class SiglipLayers(nnx.Module):
    """Parameters of all encoder layers, stacked along a leading `layers` axis."""

    def __init__(self, cfg: SiglipConfig, param_dtype: str, rngs: nnx.Rngs):
        """Residual outputs start smaller by 1/sqrt(2 * layers), so that depth adds no variance."""
        D, Q, E, I = cfg.embed_dim, cfg.num_heads, cfg.head_dim, cfg.mlp_dim  # noqa: E741
        residual = (2 * cfg.num_layers) ** -0.5

        def make(init, shape, *names):
            shape, names = (cfg.num_layers, *shape), ("layers", *names)
            return param(rngs, init, shape, names, param_dtype)

        self.norm1_scale = make(ones_init, (D,), "embed")
        self.norm1_bias = make(zeros, (D,), "embed")
        self.wq = make(fan_in(D), (D, Q, E), "embed", "heads", "head_dim")
        self.bq = make(zeros, (Q, E), "heads", "head_dim")
        self.wk = make(fan_in(D), (D, Q, E), "embed", "heads", "head_dim")
        self.bk = make(zeros, (Q, E), "heads", "head_dim")
        self.wv = make(fan_in(D), (D, Q, E), "embed", "heads", "head_dim")
        self.bv = make(zeros, (Q, E), "heads", "head_dim")
        self.wo = make(fan_in(D, residual), (Q, E, D), "heads", "head_dim", "embed")
        self.bo = make(zeros, (D,), "embed")
        self.norm2_scale = make(ones_init, (D,), "embed")
        self.norm2_bias = make(zeros, (D,), "embed")
        self.w_up = make(fan_in(D), (D, I), "embed", "mlp")
        self.b_up = make(zeros, (I,), "mlp")
        self.w_down = make(fan_in(I, residual), (I, D), "mlp", "embed")
        self.b_down = make(zeros, (D,), "embed")


def _layer(
    p: dict[str, jax.Array], x: jax.Array, cfg: SiglipConfig, mask: Leading | None
) -> jax.Array:
    """One pre-norm encoder layer on one device's frames and heads, [N, P, D] -> [N, P, D]."""
    h = layer_norm(x, p["norm1_scale"], p["norm1_bias"], cfg.norm_eps)
    query = dense("npd,dqe->npqe", h, p, "wq") + p["bq"]
    key = dense("npd,dqe->npqe", h, p, "wk") + p["bk"]
    value = dense("npd,dqe->npqe", h, p, "wv") + p["bv"]
    out = dense("npqe,qed->npd", attention(query, key, value, mask), p, "wo")
    x = x + total(out, "heads", query.shape[2], cfg.num_heads) + p["bo"]
    h = layer_norm(x, p["norm2_scale"], p["norm2_bias"], cfg.norm_eps)
    # One row a token: weight gradients over two token axes cost a CPU half as much again.
    h = h.reshape(-1, h.shape[-1])
    h = jax.nn.gelu(dense("nd,di->ni", h, p, "w_up") + p["b_up"], approximate=True)
    out = total(dense("ni,id->nd", h, p, "w_down"), "mlp", h.shape[-1], cfg.mlp_dim)
    return x + out.reshape(x.shape) + p["b_down"]


class Siglip(nnx.Module):
    """Frames to patch tokens: the hidden states after `num_layers` layers, no norm after them."""

    def __init__(self, cfg: SiglipConfig, rngs: nnx.Rngs, param_dtype: str, compute_dtype: str):
        """Builds the tower with parameters in `param_dtype`."""
        self.cfg = cfg
        self.compute_dtype = compute_dtype
        patch, D = cfg.patch_size, cfg.embed_dim
        self.patch_kernel = param(
            rngs,
            fan_in(patch * patch * 3),
            (patch, patch, 3, D),
            (None, None, None, "embed"),
            param_dtype,
        )
        self.patch_bias = param(rngs, zeros, (D,), ("embed",), param_dtype)
        self.position = param(
            rngs, truncated_normal(0.02), (cfg.grid**2, D), (None, "embed"), param_dtype
        )
        self.layers = SiglipLayers(cfg, param_dtype, rngs)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Encodes frames independently of each other.

        Args:
            frames: uint8 [N, S, S, 3], S = image_size, RGB.

        Returns:
            [N, P, D] in the compute dtype, P = grid**2, row by row.

        Raises:
            ValueError: the frames have another size.
        """
        cfg, dtype = self.cfg, jnp.dtype(self.compute_dtype)
        _, height, width, _ = frames.shape
        if height != cfg.image_size or width != cfg.image_size:
            raise ValueError(f"frames are {height}x{width}; this tower reads {cfg.image_size}")
        grid, patch, side = cfg.grid, cfg.patch_size, cfg.grid * cfg.patch_size

        def embed(p, frames):
            pixels = (frames[:, :side, :side].astype(jnp.float32) / 255.0 - 0.5) / 0.5
            patches = pixels.astype(dtype).reshape(-1, grid, patch, grid, patch, 3)
            x = jnp.einsum("nhpwqc,pqcd->nhwd", patches, p["patch_kernel"])
            return x.reshape(len(x), grid * grid, -1) + p["patch_bias"] + p["position"]

        x = on_shards(embed, stacked(self, dtype), axis_names(self), (frames,), first="frames")
        count = x.shape[1]
        size = filled(count, dtype, cfg.head_dim)
        x = jnp.pad(x, ((0, 0), (0, size - count), (0, 0)))
        mask = Leading(count) if size > count else None
        layer = functools.partial(_layer, cfg=cfg, mask=mask)
        names = axis_names(self.layers, stacked=True)

        def body(carry, p):
            return on_shards(layer, p, names, (carry,), first="frames"), None

        body = recomputed(body)
        unroll = current().layers_a_step(cfg.unroll, cfg.num_layers)
        x, _ = jax.lax.scan(body, x, stacked(self.layers, dtype), unroll=unroll)
        return x[:, :count]
