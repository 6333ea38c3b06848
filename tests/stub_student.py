"""A student without a model, whose one mistake about the tiny corpus is known."""

import os

import numpy as np
import tiny_corpus
from scipy import stats

from vqa_jax import anchors, files, relabel
from vqa_jax.scoring import EncodedVideo, VideoInput

RELABEL = relabel.RelabelConfig(
    seed=0,
    pool_segments=0,
    misordered_quota=100,
    gmad_quota=10,
    num_bins=3,
    max_per_video=4,
    unite="rank",
    num_shards=2,
)
# It takes level 1 for worse than level 2, and is right about all others.
OPINION = {0: 1.0, 1: -0.4, 2: 0.4, 3: -1.0}


class StubEngine:
    """Knows a video's level by its brightness, and a little of its source."""

    spec = tiny_corpus.student_spec()

    def encode(self, videos):
        for video in videos:
            brightness = video.frames.mean() / 217.5
            level = int(np.abs(np.array(tiny_corpus.BRIGHTNESS) - brightness).argmin())
            yield EncodedVideo(np.array([OPINION[level] + 0.3 * (brightness - 0.5)]), 1, 1)

    def compare(self, pairs):
        rows = []
        for first, second in pairs:
            p = stats.norm.cdf(second.visual.item() - first.visual.item())
            # Spread over all levels, so that the soft label has something to say.
            rows.append(np.log(stats.binom.pmf(np.arange(5), 4, np.clip(p, 0.01, 0.99))))
        return np.array(rows)

    def set_anchors(self, encoded):
        self._anchors = list(encoded)

    def against(self, pairs):
        return self.compare([(self._anchors[i], video) for i, video in pairs])


def scale_of(engine):
    """Its scale: four anchors of a source that the corpus lacks."""
    inputs = tuple(
        VideoInput(tiny_corpus.tiles(99, level)[None], np.zeros((1, 4), np.float32))
        for level in (3, 1, 2, 0)
    )
    found = anchors.AnchorSet(("a", "b", "c", "d"), inputs, (0.0, 30.0, 60.0, 100.0), "test", True)
    return anchors.Scale(engine, found)


def digests(root):
    """Path -> SHA-256 of all files below a folder."""
    return {
        os.path.join(folder, name): files.file_sha256(os.path.join(folder, name))
        for folder, _, names in os.walk(root)
        for name in names
    }
