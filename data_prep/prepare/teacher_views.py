"""What neural teachers look at in a version, cut and coded while its frames pass by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep.prepare.config import PrepConfig
from data_prep.prepare.footage import Segment
from vqa_jax.corpus import view_coding
from vqa_jax.teachers import looks, views


class TeacherViews:
    """The views of one version that the configuration keeps.

    All versions of a segment are cut at the same places, those where `teachers score` cuts a file
    of the source's name at the same seed.
    """

    def __init__(self, segment: Segment, config: PrepConfig):
        info = dataclasses.replace(segment.source.info, num_frames=segment.clip.num_frames)
        seed = views.video_seed(config.seed, segment.source.path)
        self._kept = {
            name: _Kept(looks.VIEWS[name](info, seed))
            for name in looks.needed(config.teacher_views)
        }

    @property
    def numbers(self) -> set[int]:
        """Of the frames that are looked at."""
        return {number for kept in self._kept.values() for number in kept.places}

    def add(self, number: int, frame: np.ndarray) -> None:
        """Takes frame `number`, ascending: uint8 RGB [H, W, 3]."""
        for kept in self._kept.values():
            kept.add(number, frame)

    def taken(self, at_least: int = 1) -> Iterator[tuple[str, bytes]]:
        """Coded pictures that were not taken before, where so many bytes wait: dataset, bytes."""
        for name, kept in self._kept.items():
            if len(kept.coder.waiting) >= at_least:
                yield looks.dataset(name), kept.coder.taken()

    def records(self, video_id: str) -> dict[str, dict[str, Any]]:
        """Dataset -> its record of the version but for "coded", once all frames were added."""
        return {
            looks.dataset(name): {
                "video_id": video_id,
                "view": name,
                "order": kept.order,
                **kept.coder.fields(),
            }
            for name, kept in self._kept.items()
        }


class _Kept:
    """One view: its pictures are coded as they are cut."""

    def __init__(self, view: views.View):
        self._cut = view.cut
        self.order = np.zeros(len(view.numbers), np.int32)
        self.coder = view_coding.Encoder()
        self.places: dict[int, list[int]] = {}  # of a frame's number in the view
        for place, number in enumerate(view.numbers.tolist()):
            self.places.setdefault(number, []).append(place)

    def add(self, number: int, frame: np.ndarray) -> None:
        for place in self.places.get(number, ()):
            self.order[place] = self.coder.add(self._cut(place, frame))
