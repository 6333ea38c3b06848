"""What becomes of an input: a usable source, or a row of the quarantine; and its names."""

from __future__ import annotations

import dataclasses
import hashlib

from vqa_jax.media.probe import VideoInfo


@dataclasses.dataclass(frozen=True)
class Source:
    """One usable input file.

    Attributes:
      source_id: see `source_id`.
      path: key of the input, see `listing.Input`.
      split: one of `listing.SPLITS`.
      info: what the probe found.
      stamp: size, version and content, see `listing.Stamp`; the content of a remote file is the
        hash of all bytes that the probe fetched.
      pool: name of its part of the training sources, see `data_prep.prepare.pools`.
      location: local path or URL to read it from.
    """

    source_id: str
    path: str
    split: str
    info: VideoInfo
    stamp: tuple[int, int, str]
    pool: str = "all"
    location: str = ""


@dataclasses.dataclass(frozen=True)
class Rejected:
    """One input that cannot be used, as a row of quarantine.csv."""

    path: str
    stage: str
    reason: str


def source_id(key: str) -> str:
    """Stable id of a source: 16 hex digits of the SHA-256 of its input's key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
