"""Which sources are held out, and which of the others get which simulators.

Method 3.3 gives every group of simulators its own videos. Both choices go by key hash, so neither
depends on the order of the listing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from vqa_jax.jobs.files import CorpusError, key_hash

ALL = "all"  # pool of every source when no pools are asked for, and of all held-out sources
REST = "rest"  # pool of the training sources beyond the pools asked for: no simulators


@dataclasses.dataclass(frozen=True)
class Pool:
    """A part of the training sources that gets a group of simulators of its own.

    Attributes:
      name: as records and tables know it.
      simulators: names of the simulators; none makes a pool of undistorted videos.
      sources: how many sources, if 1 or more; below 1 the share of all training sources.
    """

    name: str
    simulators: tuple[str, ...]
    sources: float

    def __post_init__(self) -> None:
        if self.name in ("", ALL, REST):
            raise ValueError(f'pool name "{self.name}": choose one other than {ALL} and {REST}')
        if self.sources <= 0 or (self.sources > 1 and self.sources != int(self.sources)):
            raise ValueError(
                f"pool {self.name}: sources {self.sources} is neither a number of sources (1, 2,"
                " ...) nor a share in (0, 1)"
            )

    def count(self, num_sources: int) -> int:
        """How many of `num_sources` training sources the pool takes."""
        return int(self.sources) if self.sources >= 1 else round(self.sources * num_sources)


def assign_splits(given: Mapping[str, str], heldout_fraction: float) -> dict[str, str]:
    """Gives every usable input its split.

    The inputs whose split nobody decided are ordered by key hash and the first `heldout_fraction`
    of them is held out. Between 0 and 1, at least one is held out, and one is not.

    Args:
      given: key -> "train", "heldout" or "" (undecided).
      heldout_fraction: in [0, 1]; 1 holds out everything, whatever is given.

    Returns:
      Key -> split, in the order of `given`.
    """
    if heldout_fraction == 1:
        return dict.fromkeys(given, "heldout")
    free = sorted((k for k, s in given.items() if not s), key=lambda k: key_hash("split:" + k))
    count = round(heldout_fraction * len(free))
    if free and heldout_fraction > 0:
        count = min(max(1, count), len(free) - 1)
    heldout = set(free[:count])
    return {k: s or ("heldout" if k in heldout else "train") for k, s in given.items()}


def assign_pools(source_ids: Iterable[str], pools: Sequence[Pool]) -> dict[str, str]:
    """Deals training sources to pools, each source to one; independent of their order.

    Sources are ordered by key hash and dealt from the front, pool by pool, so that a pool keeps
    most of its sources when others are added to the corpus.

    Returns:
      Source id -> name of its pool; `ALL` for all without pools, `REST` for those left over.

    Raises:
      CorpusError: the pools want more sources than there are.
    """
    ids = list(source_ids)
    if not pools:
        return dict.fromkeys(ids, ALL)
    ids.sort(key=lambda source_id: (key_hash("pool:" + source_id), source_id))
    wanted = [(pool.name, pool.count(len(ids))) for pool in pools]
    total = sum(count for _, count in wanted)
    if total > len(ids):
        parts = ", ".join(f"{name} {count}" for name, count in wanted)
        raise CorpusError(
            f"prep.pools want {total} training sources ({parts}), there are {len(ids)}: lower"
            " them, write them as shares below 1, or give more videos"
        )
    dealt = dict.fromkeys(ids, REST)
    start = 0
    for name, count in wanted:
        dealt.update(dict.fromkeys(ids[start : start + count], name))
        start += count
    return dealt
