"""The decoder: a cached prefix gives the uncached logits."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.qwen2 import KVCache, prefix_positions


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
