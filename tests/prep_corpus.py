"""A folder of small real video files, good, odd and broken, and settings to prepare it with."""

import hashlib
import json
import os
import pathlib

from faults import broken_files
from PIL import Image

from data_prep.config import PrepConfig

# What is in the folder -> how it is made. `USED` become records, `REFUSED` go to the quarantine.
USED = {
    "clip one.mp4": lambda d: broken_files.encode(d / "clip one.mp4", _frames(40)),
    "Ünder/Clip Zwei.MKV": lambda d: broken_files.encode(
        d / "Ünder" / "Clip Zwei.MKV", _frames(20)
    ),
    "one frame.mp4": lambda d: broken_files.encode(d / "one frame.mp4", _frames(1)),
    "half.mp4": lambda d: broken_files.USABLE["cut_off_index_first"][0](d),
    "caf\udce9.mp4": lambda d: broken_files.USABLE["name_not_utf8"][0](d),
}
REFUSED = {
    "cut.mp4": ("moov", broken_files.REFUSED["cut_off_mp4"][0]),
    "a.mp4": ("not a media file", broken_files.REFUSED["text"][0]),
    "e.mp4": ("empty", broken_files.REFUSED["empty"][0]),
    "audio_only.mp4": ("no video stream", broken_files.REFUSED["audio_only"][0]),
    "gone.mp4": ("not a regular file", lambda d: (d / "gone.mp4").symlink_to(d / "nowhere")),
}


def _frames(count: int):
    return broken_files.moving_frames(count, 64, 96)


def write_videos(folder: pathlib.Path) -> pathlib.Path:
    """All of USED and REFUSED, and files that are no inputs at all."""
    (folder / "Ünder").mkdir(parents=True)
    for make in USED.values():
        make(folder)
    for _, make in REFUSED.values():
        make(folder)
    (folder / "notes.txt").write_text("not a video\n")
    Image.fromarray(_frames(1)[0]).save(folder / "Ünder" / "cover.jpg")
    return folder


def settings(**changes) -> dict:
    """Fields of PrepConfig as plain values."""
    fields = {
        "seed": 3,
        "heldout_fraction": 0.2,
        "segments_per_source": 2,
        "heldout_segments": 1,
        "segment_seconds": 0.8,
        "window": (80, 48),
        "simulators": ("gaussian_blur", "stutter", "h264"),
        "simulators_per_segment": 2,
        "h265_preset": "ultrafast",
        "teachers": ("sharpness", "temporal_smoothness"),
        "num_buckets": 3,
        "deduplicate": "off",  # half.mp4 is a part of the next one
        "preprocess": {
            "view": "crops",
            "image_size": 16,
            "tile_size": 24,
            "num_tiles": 3,
            "max_key_frames": 2,
            "motion_size": 16,
            "clip_len": 8,
            "min_clips": 1,
            "max_clips": 2,
        },
    }
    return fields | changes


def config(**changes) -> PrepConfig:
    """The settings as `data_prep.build` takes them."""
    return PrepConfig.from_dict(settings(**changes))


def contents(data: str | os.PathLike[str]) -> dict[str, str]:
    """File name below a finished corpus -> SHA-256; the same for equal corpora."""
    root = pathlib.Path(data)
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and path.name != ".lock":
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def write_config_file(path: pathlib.Path) -> pathlib.Path:
    """The settings as a file for --config."""
    text = json.dumps(settings())
    path.write_text(
        "from ml_collections import ConfigDict\n\n"
        f"def get_config():\n    return ConfigDict({{'prep': {text}}})\n"
    )
    return path
