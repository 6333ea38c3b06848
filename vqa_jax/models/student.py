"""The pair student: vision tower, projectors, token merge, decoder, level logits (method 4)."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.devices import context
from vqa_jax.devices.execution import current, on_shards
from vqa_jax.models import int8, lora, siglip
from vqa_jax.models.cell_tower import CellTower, CellTowerConfig
from vqa_jax.models.layers import Projector, fan_in, param, truncated_normal, zeros
from vqa_jax.models.qwen2 import KVCache, Qwen2, Qwen2Config, prefix_positions
from vqa_jax.models.siglip import Siglip, SiglipConfig


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """Everything that decides the student's parameters and arithmetic.

    vision: the tower, a SigLIP of patches or a pretrained network's statistics over cells.
    motion_scale: factor on the motion features before their projector (the tiny extractor's are
    small). projector_skip: the frames' projector has a linear layer beside its two, see
    `layers.Projector`. num_severity_classes: classes of the auxiliary head; 0 leaves it out.
    param_dtype: storage; compute_dtype: matmuls (softmax and norms are float32 always). param_dtype
    "int8": the layers of decoder and SigLIP compute in it (`models.int8`), all else is in
    compute_dtype.
    """

    vision: SiglipConfig | CellTowerConfig
    llm: Qwen2Config
    motion_dim: int = 256
    motion_scale: float = 1.0
    projector_skip: bool = False
    num_severity_classes: int = 0
    param_dtype: str = "float32"
    compute_dtype: str = "float32"

    @property
    def is_int8(self) -> bool:
        """Whether layers hold and multiply whole numbers."""
        return self.param_dtype == int8.DTYPE

    @property
    def tokens_per_frame(self) -> int:
        """P, the visual tokens of one frame."""
        return self.vision.token_grid**2

    @property
    def embed_dim(self) -> int:
        """D, width of the decoder."""
        return self.llm.embed_dim


class StudentOutput(NamedTuple):
    """logits: float32 [B, T, V]; severity: float32 [B, 2, num_severity_classes] or None.

    B counts pairs, those of a group one after the other.
    """

    logits: jax.Array
    severity: jax.Array | None


@functools.cache
def _bilinear_matrix(size: int, out: int) -> np.ndarray:
    """[out, size] weights of a bilinear resize with half-pixel centres and no antialiasing."""
    source = np.maximum((np.arange(out) + 0.5) * (size / out) - 0.5, 0.0)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, size - 1)
    weights = np.zeros((out, size))
    np.add.at(weights, (np.arange(out), low), 1.0 - (source - low))
    np.add.at(weights, (np.arange(out), high), source - low)
    return weights.astype(np.float32)


def bilinear_pool(tokens: jax.Array, grid: int) -> jax.Array:
    """Shrinks a square token grid to half its side, rounded up.

    Args:
        tokens: [..., grid * grid, D], row by row.
        grid: side.

    Returns:
        [..., ceil(grid / 2)**2, D]
    """
    out = -(-grid // 2)
    weights = jnp.asarray(_bilinear_matrix(grid, out), tokens.dtype)
    square = tokens.reshape(*tokens.shape[:-2], grid, grid, tokens.shape[-1])
    pooled = jnp.einsum("hi,wj,...ijd->...hwd", weights, weights, square)
    return pooled.reshape(*tokens.shape[:-2], out * out, tokens.shape[-1])


def _at(hidden: jax.Array, positions: jax.Array) -> jax.Array:
    """Hidden states [B, L, D] at positions int32 [B, T]: [B, T, D]."""

    def local(_, hidden, positions):
        return context.taken(hidden, positions)

    rows = current().spec(("batch",), positions.shape[:1])
    sequences = current().spec(("batch", "sequence"), hidden.shape[:2])
    return on_shards(local, {}, {}, (hidden, positions), (sequences, rows), rows)


class Student(nnx.Module):
    """Compares two videos.

    Its parts are attributes: `vision`, `vision_projector`, `motion_projector`, `newline`, `llm`,
    and `severity_kernel`, `severity_bias` where the auxiliary head exists.
    """

    def __init__(self, cfg: StudentConfig, rngs: nnx.Rngs):
        """Builds the student for training from scratch; weights may be loaded over it."""
        self.cfg = cfg
        dtype = cfg.compute_dtype if cfg.is_int8 else cfg.param_dtype
        D, width = cfg.embed_dim, cfg.vision.embed_dim
        tower = CellTower if isinstance(cfg.vision, CellTowerConfig) else Siglip
        self.vision = tower(cfg.vision, rngs, dtype, cfg.compute_dtype)
        self.vision_projector = Projector(width, D, dtype, rngs, cfg.projector_skip)
        self.motion_projector = Projector(cfg.motion_dim, D, dtype, rngs)
        self.newline = param(rngs, truncated_normal(D**-0.5), (D,), ("embed",), dtype)
        self.llm = Qwen2(cfg.llm, rngs, dtype, cfg.compute_dtype)
        if cfg.num_severity_classes:
            classes = cfg.num_severity_classes
            self.severity_kernel = param(
                rngs, fan_in(width), (width, classes), ("embed", None), dtype
            )
            self.severity_bias = param(rngs, zeros, (classes,), (None,), dtype)
        if cfg.is_int8 or cfg.llm.lora_base == int8.DTYPE:
            int8.quantize(self.llm.layers, lora.TARGETS)
        if cfg.is_int8 and isinstance(self.vision, Siglip):
            int8.quantize(self.vision.layers, siglip.INPUT_AXES)

    def tower_tokens(self, frames: jax.Array) -> jax.Array:
        """Tower tokens before projection and pooling: uint8 [..., F, H, W, 3] -> [..., F, P0, W].

        P0 = grid**2, W = the tower's width. What a frozen tower made of the frames before
        (`CellTower.statistics`, float32 [..., F, P0, W]) is taken in place of them.
        """
        if jnp.issubdtype(frames.dtype, jnp.floating):
            return self.vision.standardized(frames)
        lead = frames.shape[:-3]
        tokens = self.vision(frames.reshape(-1, *frames.shape[-3:]))
        return tokens.reshape(*lead, *tokens.shape[1:])

    def pooled_tokens(self, tower: jax.Array) -> jax.Array:
        """Projects to the decoder's width and pools: [..., P0, W] -> [..., P, D]."""
        vision, projected = self.cfg.vision, self.vision_projector(tower, "frames")
        return (
            projected if vision.token_grid == vision.grid else bilinear_pool(projected, vision.grid)
        )

    def visual_tokens(self, tower: jax.Array, motion: jax.Array, num_frames: int) -> jax.Array:
        """A video's part of the bank (`prompt.Bank`) from its patch tokens and motion features.

        Args:
            tower: [N, P0, W] from `tower_tokens` of all videos' frames (`context.spread`).
            motion: float32 [V, M, Dm].
            num_frames: F, of each video.

        Returns:
            [V, F * P + 1 + M, D]: the frames' tokens, one newline, the motion tokens.
        """
        V, D = motion.shape[0], self.cfg.embed_dim
        frame_tokens = context.collected(self.pooled_tokens(tower), V, num_frames)
        frame_tokens = frame_tokens.reshape(V, -1, D)
        newline = jnp.broadcast_to(self.newline[...].astype(frame_tokens.dtype), (V, 1, D))
        motion_tokens = self.motion_projector(
            (self.cfg.motion_scale * motion).astype(frame_tokens.dtype)
        )
        return jnp.concatenate([frame_tokens, newline, motion_tokens], axis=1)

    def encode_videos(self, frames: jax.Array, motion: jax.Array) -> jax.Array:
        """Visual tokens of videos, padded ones included (a layout never refers to padding).

        Args:
            frames: uint8 [V, F, S, S, 3].
            motion: float32 [V, M, Dm].

        Returns:
            [V, F * P + 1 + M, D]
        """
        tower = self.tower_tokens(context.spread(frames))
        return self.visual_tokens(tower, motion, frames.shape[1])

    def merge(self, tokens: jax.Array, visual: jax.Array) -> jax.Array:
        """Embeds text and puts visual tokens where `tokens` refers to them.

        Args:
            tokens: int32 [B, L]; >= 0: text id, -(1 + i): visual token i of that example.
            visual: [B, T, D], both videos' banks one after the other.

        Returns:
            [B, L, D]
        """

        def local(_, tokens, text, visual):
            index = jnp.maximum(-1 - tokens, 0)[..., None]
            found = jnp.take_along_axis(visual, index, axis=1)
            return jnp.where(tokens[..., None] >= 0, text, found)

        text = self.llm.embed(jnp.maximum(tokens, 0))
        rows = current().spec(("batch",), tokens.shape[:1])
        sequences = current().spec(("batch", "sequence"), tokens.shape)
        arrays, specs = (tokens, text, visual), (sequences, sequences, rows)
        return on_shards(local, {}, {}, arrays, specs, sequences)

    def hidden(
        self, embeds: jax.Array, positions: jax.Array, prefix_cache: KVCache | None = None
    ) -> tuple[jax.Array, KVCache]:
        """Decoder states and the cache of everything so far; see `Qwen2.hidden`."""
        return self.llm.hidden(embeds, positions, prefix_cache)

    def severity_logits(
        self, frame_means: jax.Array, frame_mask: jax.Array | None = None
    ) -> jax.Array:
        """The auxiliary head: a linear layer on the mean over real frames and their tokens.

        Args:
            frame_means: float32 [..., F, W], means of each frame's tokens from `tower_tokens`.
            frame_mask: [..., F], 1 for real frames; None: all are.

        Returns:
            float32 [..., num_severity_classes]

        Raises:
            ValueError: the config has no such head.
        """
        if not self.cfg.num_severity_classes:
            raise ValueError("num_severity_classes is 0: this student has no auxiliary head")
        if frame_mask is None:
            mean = frame_means.mean(-2)
        else:
            weights = frame_mask.astype(jnp.float32)[..., None]
            mean = (frame_means * weights).sum(-2) / jnp.maximum(weights.sum(-2), 1.0)
        kernel = self.severity_kernel[...].astype(jnp.float32)
        return mean @ kernel + self.severity_bias[...].astype(jnp.float32)

    def _tower(self, frames):
        """Tower tokens [N, P0, W] of all frames of [B, n, F, ...] (`context.spread`)."""
        return self.tower_tokens(context.spread(frames.reshape(-1, *frames.shape[2:])))

    def _visual(self, tower, motion, num_frames):
        """Banks [B, n * stride, D] of all n videos of each row, motion [B, n, M, Dm]."""
        videos = motion.reshape(-1, *motion.shape[2:])
        visual = self.visual_tokens(tower, videos, num_frames)
        return visual.reshape(len(motion), -1, visual.shape[-1])

    def _severity(self, tower, size, frame_mask):
        """Severity logits of all videos, size (B, n, F); frame_mask: of that size, or None."""
        B, videos, F = size
        means = context.collected(tower.astype(jnp.float32).mean(-2), B * videos, F)
        return self.severity_logits(means.reshape(B, videos, F, -1), frame_mask)

    def _states(self, visual, tokens):
        """Decoder states [B, L, D] of whole, uncached sequences (`context.in_parts`)."""
        tokens = context.in_parts(tokens)
        embeds = self.merge(tokens, visual)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        return self.llm.hidden(embeds, context.in_parts(positions), return_cache=False)[0]

    def _suffix_states(self, visual, prefix_tokens, prefix_len, tokens):
        """Decoder states [G, g * L2, D] of suffixes that share their row's prefix."""
        (G, count, length), size = tokens.shape, prefix_tokens.shape[1]
        row = jnp.concatenate([prefix_tokens, tokens.reshape(G, -1)], axis=1)
        embeds = self.merge(row, visual)
        steps = jnp.tile(jnp.arange(length, dtype=jnp.int32), count)
        after = prefix_len[:, None] + steps[None]
        positions = jnp.concatenate([prefix_positions(prefix_len, size), after], axis=1)
        hidden, _ = self.llm.hidden(embeds, positions, return_cache=False, shared=(size, count))
        return hidden[:, size:]

    def forward_groups(
        self,
        frames: jax.Array,
        motion: jax.Array,
        prefix_tokens: jax.Array,
        prefix_len: jax.Array,
        tokens: jax.Array,
        answer_pos: jax.Array,
        frame_mask: jax.Array,
    ) -> StudentOutput:
        """`forward` of groups of pairs with one first video, which is encoded and read once.

        Args:
            frames: uint8 [G, 1 + g, F, S, S, 3]: the first video, then the second ones.
            motion: float32 [G, 1 + g, M, Dm].
            prefix_tokens: int32 [G, L1], the prompt up to the second video, padded on the right.
            prefix_len: int32 [G], its real length.
            tokens: int32 [G, g, L2], the rest of every pair's prompt, padded on the right; coding
                of `merge` with the banks of all 1 + g videos one after the other.
            answer_pos: int32 [G, g, T], positions in a row of `tokens`.
            frame_mask: [G, 1 + g, F].

        Returns:
            Logits and severity of the B = G * g pairs.
        """
        (G, count, length), T = tokens.shape, answer_pos.shape[-1]
        tower = self._tower(frames)
        visual = self._visual(tower, motion, frames.shape[2])
        hidden = self._suffix_states(visual, prefix_tokens, prefix_len, tokens)
        starts = jnp.arange(count, dtype=jnp.int32)[:, None] * length
        answers = _at(hidden, (answer_pos + starts).reshape(G, -1))
        logits = self.llm.logits(answers).reshape(G * count, T, -1)
        severity = None
        if self.cfg.num_severity_classes:
            videos = self._severity(tower, frames.shape[:3], frame_mask)
            first = jnp.broadcast_to(videos[:, :1], videos[:, 1:].shape)
            severity = jnp.stack([first, videos[:, 1:]], axis=2)
            severity = severity.reshape(G * count, 2, -1)
        return StudentOutput(logits, severity)

    def forward(
        self,
        frames: jax.Array,
        motion: jax.Array,
        tokens: jax.Array,
        answer_pos: jax.Array,
        frame_mask: jax.Array | None = None,
    ) -> StudentOutput:
        """One pass over pairs, with the auxiliary head's output if there is one.

        Args:
            frames: uint8 [B, 2, F, S, S, 3].
            motion: float32 [B, 2, M, Dm].
            tokens: int32 [B, L], coding of `merge`, padded on the right with any text id.
            answer_pos: int32 [B, T], positions whose next-token logits are wanted.
            frame_mask: [B, 2, F], 1 for real frames; used by the auxiliary head only.
        """
        tower = self._tower(frames)
        hidden = self._states(self._visual(tower, motion, frames.shape[2]), tokens)
        answers = _at(hidden, answer_pos)
        severity = None
        if self.cfg.num_severity_classes:
            severity = self._severity(tower, frames.shape[:3], frame_mask)
        return StudentOutput(self.llm.logits(answers), severity)

    def __call__(
        self, frames: jax.Array, motion: jax.Array, tokens: jax.Array, answer_pos: jax.Array
    ) -> jax.Array:
        """Logits float32 [B, T, V] at `answer_pos`; arguments as for `forward`."""
        return self.forward(frames, motion, tokens, answer_pos).logits

    def level_logits(
        self,
        frames: jax.Array,
        motion: jax.Array,
        tokens: jax.Array,
        answer_pos: jax.Array,
        level_ids: jax.Array,
    ) -> jax.Array:
        """Logits of the five levels after a scoring prompt.

        Args:
            frames: as for `forward`.
            motion: as for `forward`.
            tokens: as for `forward`.
            answer_pos: int32 [B, 1].
            level_ids: int32 [5], in the order of LEVELS.

        Returns:
            float32 [B, 5]
        """
        visual = self._visual(self._tower(frames), motion, frames.shape[2])
        hidden = self._states(visual, tokens)
        return self.llm.logits(_at(hidden, answer_pos), level_ids)[:, 0]


def count_parameters(cfg: StudentConfig) -> dict[str, int]:
    """Parameters by part of the student, without making any of them."""
    student = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    counts: dict[str, int] = {}
    for path, variable in nnx.state(student, nnx.Param).flat_state():
        part = str(path[0]).removesuffix("_kernel").removesuffix("_bias")
        counts[part] = counts.get(part, 0) + int(np.prod(variable.shape))
    return counts
