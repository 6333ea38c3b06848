"""Which views the neural teachers take, by name: of a file, or of a corpus that keeps them.

A view is named once, whoever looks at it: DOVER and its branches share theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from vqa_jax.media.probe import VideoInfo
from vqa_jax.teachers import views
from vqa_jax.teachers.views import View

UVQ_FRAME = (1080, 1920)  # height and width that every frame is brought to
# Name -> the view of a video and its seed.
VIEWS: Mapping[str, Callable[[VideoInfo, int], View]] = {
    "fragments_4": lambda info, seed: views.fragment_view(info, seed, 4),
    "fragments_3": lambda info, seed: views.fragment_view(info, seed, 3),
    "aesthetic": views.aesthetic_view,
    "key_frames": lambda info, seed: views.key_frame_view(info),
    "motion": lambda info, seed: views.motion_view(info),
    "sampled": lambda info, seed: views.sampled_view(info, UVQ_FRAME),
}
# Teacher -> what it looks at. `level_prompt` is not here: its view is its student's.
LOOKS: Mapping[str, tuple[str, ...]] = {
    "fast_vqa": ("fragments_4",),
    "dover": ("fragments_3", "aesthetic"),
    "dover_script": ("fragments_3", "aesthetic"),
    "dover_technical": ("fragments_3",),
    "dover_aesthetic": ("aesthetic",),
    "minimalistic_vii": ("key_frames",),
    "minimalistic_ix": ("key_frames", "motion"),
    "uvq": ("sampled",),
}


def needed(teachers: Iterable[str]) -> list[str]:
    """Names of the views that some teachers of LOOKS take, each once."""
    return sorted({name for teacher in teachers for name in LOOKS[teacher]})


def dataset(view: str) -> str:
    """Name of the dataset of a corpus that keeps a view, of kind `vqa_views`."""
    return f"vqa_views_{view}"
