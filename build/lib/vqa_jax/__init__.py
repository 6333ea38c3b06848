"""No-reference video quality by comparing pairs of videos, without human labels.

    vqa_jax.score("clip.mp4")                   # -> Result, by the shipped student
    vqa_jax.score(frames, fps=30.0)             # uint8 RGB [T, H, W, 3]
    vqa_jax.compare("a.mp4", "b.mp4")           # -> PairResult: is the second better?
    vqa_jax.load("runs/x/student").score(...)   # another student

Importing the package alone imports nothing else; a name brings what it needs when it is used.

"method 3.1" in a comment is section 3.1 of README.md in this folder, which states the method of
arXiv 2505.03631 with every constant, and says where the paper, its authors' code and we differ.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AnchorSet": "vqa_jax.scoring.anchors",
    "PairResult": "vqa_jax.scoring.results",
    "Predictor": "vqa_jax.scoring.predictor",
    "Result": "vqa_jax.scoring.results",
    "ScoreConfig": "vqa_jax.settings",
    "compare": "vqa_jax.loading",
    "load": "vqa_jax.loading",
    "score": "vqa_jax.loading",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Imports a public name from where it lives, and keeps it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """The public names, imported yet or not."""
    return sorted({*globals(), *__all__})
