"""Ask: which pairs of video and anchor the student is shown, and in which order.

The default shows every anchor first and the video second (method 8); fewer anchors or both orders
are `ScoreConfig`'s other modes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from vqa_jax.pairs.levels import preference
from vqa_jax.scoring import w2s
from vqa_jax.scoring.engine import EncodedVideo, Engine, VideoInput
from vqa_jax.scoring.scale import AnchorScale
from vqa_jax.settings import ScoreConfig


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the student said of videos and anchors.

    Attributes:
      preferred: float64 [n, A], probability that a video is preferred to each anchor; 0.5 where
        it was not asked.
      seen: bool [n, A], which anchors each video was compared with.
      contradicted: bool [n, A], whether the two orders disagree; None where one was asked.
    """

    preferred: np.ndarray
    seen: np.ndarray
    contradicted: np.ndarray | None = None

    @property
    def comparisons(self) -> np.ndarray:
        """Pairs [n] that the student judged for each video."""
        return self.seen.sum(axis=1) * (1 if self.contradicted is None else 2)


class Comparisons:
    """Shows one student its anchors and the videos: the engine, with the anchors encoded in it."""

    def __init__(self, engine: Engine, anchors: Sequence[VideoInput], tau: float = 1.0):
        """Encodes the anchors; their keys and values stay in the engine.

        Args:
          engine: the student.
          anchors: [A] what it sees of them.
          tau: temperature of the level softmax (method 8: 1).
        """
        self._engine, self._tau = engine, tau
        self._anchors = list(engine.encode(anchors))
        engine.set_anchors(self._anchors)

    def among_anchors(self) -> np.ndarray:
        """Probability [A, A] that anchor j, shown second, is preferred to i; 0.5 for itself."""
        count = len(self._anchors)
        ordered = [(i, j) for i in range(count) for j in range(count) if i != j]
        pairs = [(self._anchors[i], self._anchors[j]) for i, j in ordered]
        second_wins = np.full((count, count), 0.5)
        for (i, j), p in zip(
            ordered, preference(self._engine.compare(pairs), self._tau), strict=True
        ):
            second_wins[i, j] = p
        return second_wins

    def ask(
        self, videos: Sequence[EncodedVideo], config: ScoreConfig, scale: AnchorScale
    ) -> Answers:
        """Asks about videos in the way that the settings say.

        Args:
          videos: at least one.
          config: the mode.
          scale: of these anchors; adaptive rounds choose the next anchor by its estimate.
        """
        if config.epsilon > 0:

            def answer(anchors: np.ndarray, rows: np.ndarray) -> np.ndarray:
                return self._picked(
                    [(int(a), videos[i]) for a, i in zip(anchors, rows, strict=True)]
                )

            return in_rounds(answer, len(videos), scale, config.epsilon)
        if config.both_orders:
            return self._both_orders(videos)
        preferred = self.every(videos, w2s.TAU if config.protocol == "w2s" else None)
        return Answers(preferred, np.ones(preferred.shape, bool))

    def every(self, videos: Sequence[EncodedVideo], tau: float | None = None) -> np.ndarray:
        """Probability [n, A] that a video, shown second, is preferred to each anchor.

        Args:
          videos: to be compared with every anchor.
          tau: another temperature of the level softmax than the usual one.
        """
        pairs = [(a, video) for video in videos for a in range(len(self._anchors))]
        return self._picked(pairs, tau).reshape(len(videos), len(self._anchors))

    def _picked(
        self, pairs: Sequence[tuple[int, EncodedVideo]], tau: float | None = None
    ) -> np.ndarray:
        """Probability [n] that a video is preferred to the anchor of this number."""
        return preference(self._engine.against(pairs), tau or self._tau)

    def _both_orders(self, videos: Sequence[EncodedVideo]) -> Answers:
        """Every anchor in both orders; the second shares no prefix, so it costs whole pairs."""
        forward = self.every(videos)
        pairs = [(video, anchor) for video in videos for anchor in self._anchors]
        anchor_wins = preference(self._engine.compare(pairs), self._tau).reshape(forward.shape)
        return Answers(
            0.5 * (forward + 1 - anchor_wins),
            np.ones(forward.shape, bool),
            (forward > 0.5) == (anchor_wins > 0.5),
        )


def in_rounds(
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray],
    videos: int,
    scale: AnchorScale,
    epsilon: float,
    most: int | None = None,
) -> Answers:
    """Compares each video with as few anchors as its estimate needs; all videos go in rounds.

    Args:
      answer: (anchors, videos), both int [m] -> probability [m] that the video is preferred.
      videos: how many.
      scale: of the anchors.
      epsilon: a comparison that moves q by less is a video's last.
      most: comparisons a video at most; default: all anchors.
    """
    anchor_q = scale.anchor_q
    rank = np.argsort(anchor_q)
    count = len(anchor_q)
    preferred = np.full((videos, count), 0.5)
    seen = np.zeros(preferred.shape, bool)
    active, q = np.arange(videos), np.zeros(videos)
    for turn in range(count if most is None else most):
        if turn == 0:
            picked = np.full(len(active), rank[count // 2])
        else:
            distance = np.abs(q[active, None] - anchor_q)
            picked = np.where(seen[active], np.inf, distance).argmin(axis=1)
        preferred[active, picked] = answer(picked, active)
        seen[active, picked] = True
        new = scale.solve_q(preferred[active], seen[active])[0]
        moved = np.abs(new - q[active])
        q[active] = new
        active = active[moved >= epsilon]
        if not len(active):
            break
    return Answers(preferred, seen)
