"""Settings of the web service."""

from __future__ import annotations

import dataclasses

from vqa_jax.settings import DecodeLimits, SettingsError

_LIMITS = DecodeLimits(seconds=60.0)  # somebody waits


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """What the web service takes and for how long.

    Attributes:
      limits: of the decoding of one file.
      requests: at work or waiting, their uploads too; one more is told to come again.
      upload_mb: of a request's body, or a file that is fetched, MiB.
      upload_seconds: until a body, or such a file, has come.
      work_seconds: of a request's work, waiting not counted.
      timeline_seconds: of a video that a curve over time covers, from its start.
      urls: prefixes (http, https) that videos may be fetched from; none: only uploads.
      token: that requests must bring; "": none.
    """

    limits: DecodeLimits = _LIMITS
    requests: int = 64
    upload_mb: int = 512
    upload_seconds: float = 120.0
    work_seconds: float = 300.0
    timeline_seconds: float = 300.0
    urls: tuple[str, ...] = ()
    token: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.requests < 1 or self.upload_mb < 1:
            raise SettingsError("a service takes one request and 1 MB at least")
        if min(self.upload_seconds, self.work_seconds, self.timeline_seconds) <= 0:
            raise SettingsError("a service's times are above 0 s")
