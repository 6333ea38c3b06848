"""Cost of preparing videos: the share of every step, and our reading path against a bare loop.

The real code runs under the profiler, on the clock of CPU seconds of this process alone, so the
figures hold on a busy machine too, as far as caches and hyper-threads allow.
"""

from __future__ import annotations

import contextlib
import cProfile
import os
import platform
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from data_prep.inputs import source as ingest
from data_prep.prepare import buckets
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.segments import prepare_source
from data_prep.scenes import scenes
from vqa_jax.cli import config as config_option
from vqa_jax.corpus import shards
from vqa_jax.media import find, probe, view
from vqa_jax.media.preprocess import Preprocess

# Step -> parts of the paths of its files. What they call of libraries is their time, too.
_STEPS = {
    "decode": ["vqa_jax/media/decode", "media/container", "media/colour", "media/interlace"],
    "keep": ["data_prep/prepare/footage"],  # frames in a file and out of it
    "resize": ["vqa_jax/media/view"],
    "encode": ["data_prep/simulators/encode", "data_prep/simulators/elementary"],
    "simulators": ["data_prep/simulators/"],
    "teachers": ["vqa_jax/teachers/"],
    "write": ["vqa_jax/corpus/", "data_prep/prepare/buckets"],
}
_REPEATS = 3
_DEEPEST = 8  # calls of a library by itself
_PUBLISHED = Preprocess()  # 384-pixel key frames, ten clips of 224


def measure(
    videos: str | None,
    num: int,
    height: int,
    seconds: float,
    config_file: str,
    simulators: Sequence[str] = (),
    h265_preset: str = "",
) -> dict[str, Any]:
    """Prepares `num` videos in a temporary folder and returns what it cost.

    Args:
      videos: folder to take them from; None makes scenes.
      num: how many.
      height: lines of the scenes, 16:9 from 720 lines on and 4:3 below.
      seconds: length of the scenes.
      config_file: name or file of a configuration, whose `prep` settings are used.
      simulators: names or kinds, all of which every segment gets; (): as the configuration says.
      h265_preset: of H.265; "": as the configuration says.

    Returns:
      {"machine", "videos", "clips", "cpu_seconds", "clips_per_core_second", "by_simulator"
      (simulator -> CPU seconds of one of its versions; of the source with what is read once),
      "megapixels" (of all frames of the segments), "shares" (step -> share of the CPU seconds),
      "bytes_per_clip" (dataset -> bytes), "reading": {"ours", "bare" (frames kept per CPU second),
      "ratio"}}.
    """
    fields = config_option.read(config_file).prep.to_dict()
    if simulators:
        fields |= {"simulators": tuple(simulators), "simulators_per_segment": 0, "pools": ()}
    if h265_preset:
        fields["h265_preset"] = h265_preset
    config = PrepConfig.from_dict(fields)
    cv2.setNumThreads(1)  # as in the child that prepares
    with tempfile.TemporaryDirectory() as folder:
        if videos is None:
            videos = os.path.join(folder, "scenes")
            width = 2 * round(height * (16 / 9 if height >= 720 else 4 / 3) / 2)
            scenes.make_scenes(
                scenes.SceneConfig(num=num, width=width, height=height, seconds=seconds), videos
            )
        infos = [probe.probe(path) for path in find.find_videos([videos])[:num]]
        if not infos:
            raise FileNotFoundError(f"{videos} holds no video")
        prepared = _prepare(infos, folder, config)
        reading = _compare_reading(infos)
    return {"machine": _machine(), "config": config_file, **prepared, "reading": reading}


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as Markdown."""
    shares = found["shares"]
    lines = [
        f"{found['machine']}; {found['config']}; {found['videos']} videos, {found['clips']} clips",
        "",
        "| step | share | CPU s a clip |",
        "|---|---|---|",
    ]
    each = found["cpu_seconds"] / found["clips"]
    lines += [f"| {k} | {v:.1%} | {v * each:.4f} |" for k, v in shares.items()]
    lines += [f"| all | 100% | {each:.4f} |", "", "| a version | CPU s |", "|---|---|"]
    lines += [f"| {k} | {v:.3f} |" for k, v in found["by_simulator"].items()]
    lines += [
        "",
        f"{found['megapixels']:.1f} megapixels a source; bytes: {found['bytes_per_clip']}",
    ]
    lines.append(f"{found['clips_per_core_second']:.2f} clips per core-second")
    reading = found["reading"]
    lines.append(
        f"frames kept per CPU second: {reading['ours']:.0f}, bare loop {reading['bare']:.0f},"
        f" ratio {reading['ratio']:.2f}"
    )
    return "\n".join(lines)


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _prepare(infos: list[probe.VideoInfo], folder: str, config: PrepConfig) -> dict[str, Any]:
    sources = [
        ingest.Source(f"{k:08d}", os.path.basename(info.path), "train", info, (0, 0))
        for k, info in enumerate(infos)
    ]
    kinds = config.datasets()
    paths = {dataset: os.path.join(folder, dataset) for dataset in kinds}
    profile = cProfile.Profile(time.process_time)
    start, count, megapixels = time.process_time(), 0, 0.0
    by_simulator: dict[str, list[float]] = {}
    profile.enable()
    with contextlib.ExitStack() as stack:
        writers = {
            dataset: stack.enter_context(shards.ShardWriter(path, kinds[dataset]))
            for dataset, path in paths.items()
        }
        for info, source in zip(infos, sources, strict=True):
            before = time.process_time()
            for video, coded in buckets.gathered(prepare_source(info.path, source, config)):
                writers["vqa_videos"].write(video.video)
                writers["vqa_clips"].write_serialized(video.video["video_id"], coded)
                for dataset, record in video.views.items():
                    writers[dataset].write(record)
                now, row = time.process_time(), video.row
                by_simulator.setdefault(row["simulator"], []).append(now - before)
                before = now
                count += 1
                if not row["level"]:
                    pixels = video.video["width"] * video.video["height"]
                    megapixels += row["num_frames"] * pixels / 1e6
    for writer in writers.values():
        writer.finish()
    profile.disable()
    total = time.process_time() - start
    return {
        "videos": len(infos),
        "clips": count,
        "cpu_seconds": total,
        "clips_per_core_second": count / total,
        "by_simulator": {k: sum(v) / len(v) for k, v in by_simulator.items()},
        "megapixels": megapixels / len(infos),
        "shares": _shares(profile, total),
        "bytes_per_clip": {kind: os.path.getsize(path) / count for kind, path in paths.items()},
    }


def _shares(profile: cProfile.Profile, total: float) -> dict[str, float]:
    stats = pstats.Stats(profile).stats
    seconds = dict.fromkeys(_STEPS, 0.0)
    for function, (_, _, own, _, _) in stats.items():
        for step, share in _owners(function, stats, ()).items():
            seconds[step] += own * share
    shares = {step: value / total for step, value in seconds.items()}
    return shares | {"other": 1 - sum(shares.values())}


def _owners(function: Any, stats: dict[Any, Any], within: tuple[Any, ...]) -> dict[str, float]:
    """Step -> share of a function's own time; a library's is that of its callers."""
    for step, parts in _STEPS.items():
        if any(part in function[0] for part in parts):
            return {step: 1.0}
    found: dict[str, float] = {}
    callers = stats[function][4]
    total = sum(own for _, _, own, _ in callers.values())
    for caller, (_, _, own, _) in callers.items():
        if total and caller not in within and len(within) < _DEEPEST:
            for step, share in _owners(caller, stats, (*within, function)).items():
                found[step] = found.get(step, 0.0) + share * own / total
    return found


def _compare_reading(infos: list[probe.VideoInfo]) -> dict[str, float]:
    """Frames kept per CPU second by us and by a bare loop, in turn; the best round of each."""
    ours, bare = (
        max(times)
        for times in zip(
            *((_rate(infos, _read_ours), _rate(infos, _read_bare)) for _ in range(_REPEATS)),
            strict=True,
        )
    )
    return {"ours": ours, "bare": bare, "ratio": ours / bare}


def _rate(infos: list[probe.VideoInfo], read: Callable[[probe.VideoInfo], None]) -> float:
    start = time.process_time()
    for info in infos:
        read(info)
    kept = sum(len(set().union(*_wanted(info))) for info in infos)
    return kept / (time.process_time() - start)


def _wanted(info: probe.VideoInfo) -> tuple[set[int], set[int]]:
    """Numbers of the frames for the pictures and for the motion clips."""
    keys = view.key_frame_indices(info.num_frames, info.fps)
    moving = view.motion_clip_indices(info.num_frames, info.fps)
    return set(keys), set(np.unique(moving).tolist())


def _read_ours(info: probe.VideoInfo) -> None:
    view.video_input(info.path, _PUBLISHED)


def _read_bare(info: probe.VideoInfo) -> None:
    """Decodes, converts and resizes the same frames, and checks nothing."""
    keys, moving = _wanted(info)
    last = max(keys | moving)
    with av.open(info.path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number in keys or number in moving:
                image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                if number in keys:
                    side = _PUBLISHED.image_size
                    np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
                if number in moving:
                    side = _PUBLISHED.motion_size
                    np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
            if number == last:
                break
