"""Order of simulated versions of clips, and three things that the levels of one simulator do not
tell: compressed copies beside their original, small copies beside it, and VMAF across simulators.

    python launch/order.py cut --clips DIR --out DIR [--seconds 2] [--lines 0]
    python launch/order.py tell --data CORPUS --evaluation DIR --scores FILE.csv --out FILE.json

`launch/order.sh` runs both, with the commands that lie between.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from absl import logging
from PIL import Image
from pyarrow import parquet
from scipy import stats

from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs.files import CorpusError, replacing, write_json
from vqa_jax.media.container import MediaError
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.find import find_videos
from vqa_jax.media.probe import probe
from vqa_jax.settings import DEFAULT_LIMITS

WHOLE, QUARTER = "cut", "quarter"
CODECS = ("h264", "h265")
LEAST_CRF = 40  # from which a copy is clearly worse than its original
SCALED = ("resize", "nearest", "bilinear")
_RATE_DENOMINATOR = 1001


def cut(clips: str, out: str, seconds: float, lines: int) -> int:
    """Writes the beginning of every clip below a folder, and a copy of a quarter of its height.

    Both are stored without loss, so that nothing is judged but the clip and its size. Clips that
    cannot be read are left out with a warning.

    Args:
      clips: folder.
      out: gets OUT/cut/NAME.mkv and OUT/quarter/NAME.mkv; those that are there stay.
      seconds: taken from the start.
      lines: higher clips are reduced to so many; 0 leaves all as they are.

    Returns:
      How many there are.

    Raises:
      CorpusError: no clip can be read.
    """
    found = 0
    for path in find_videos([clips]):
        name = os.path.splitext(os.path.basename(path))[0] + ".mkv"
        whole, quarter = (os.path.join(out, part, name) for part in (WHOLE, QUARTER))
        try:
            if not (os.path.exists(whole) and os.path.exists(quarter)):
                info = probe(path)
                count = min(info.num_frames, max(1, round(seconds * info.fps)))
                frames = [f for _, f in isolated_frames(info, range(count), DEFAULT_LIMITS)]
                if lines:
                    frames = [_scaled(frame, min(lines, len(frame))) for frame in frames]
                small = [_scaled(frame, max(2, len(frame) // 4)) for frame in frames]
                write_lossless(whole, frames, info.fps)
                write_lossless(quarter, small, info.fps)
        except MediaError as error:
            logging.warning("left out: %s", error)
        else:
            found += 1
    if not found:
        raise CorpusError(f"{clips}: no clip can be read")
    return found


def _scaled(frame: np.ndarray, height: int) -> np.ndarray:
    """A frame of another height and the same aspect, bicubic."""
    if height == len(frame):
        return frame
    width = max(2, round(frame.shape[1] * height / len(frame)))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def write_lossless(path: str, frames: Sequence[np.ndarray], fps: float) -> None:
    """Writes RGB frames uint8 [H, W, 3] of one size as FFV1 in Matroska."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as temporary, av.open(temporary, "w", format="matroska") as container:
        rate = Fraction(fps).limit_denominator(_RATE_DENOMINATOR)
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode())


def told(
    table: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    pairs: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, Any]],
    files: Mapping[str, float],
) -> dict[str, Any]:
    """All figures of one student on one folder of clips.

    Args:
      table: rows of the corpus's video table.
      evaluation: content of `evaluate`'s evaluation.json.
      pairs, scores: rows of its tables.
      files: path -> score of the clips as cut and as reduced to a quarter.

    Returns:
      "accuracy" (mean over simulators) with "interval" (over clips), "by_simulator", "lowest"
      [simulator, accuracy]; "crf": codec -> {"right", "clips"}: clips whose original is preferred
      to all copies of CRF 40 and more; "quarter": {"right", "clips", "wrong"}; "vmaf": {"mean",
      "lowest", "clips"}, rank correlations within a clip over x264, x265 and scaling; None
      where VMAF was not measured.
    """
    rows = {row["video_id"]: row for row in table}
    by_simulator = {name: v["accuracy"] for name, v in evaluation["by_simulator"].items()}
    return {
        "accuracy": evaluation["accuracy"],
        "interval": evaluation["accuracy_ci"],
        "by_simulator": by_simulator,
        "lowest": list(min(by_simulator.items(), key=lambda item: item[1])),
        "crf": {codec: _copies(rows, pairs, codec) for codec in CODECS},
        "quarter": _quarters(files),
        "vmaf": _by_vmaf(rows, scores),
    }


def _copies(
    rows: Mapping[str, Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]], codec: str
) -> dict[str, int]:
    """Of how many clips the original is preferred to every copy of a high CRF."""
    right: dict[str, list[bool]] = defaultdict(list)
    for pair in pairs:
        ends = sorted((rows[pair[k]] for k in ("first_id", "second_id")), key=lambda r: r["level"])
        if pair["simulator"] != codec or ends[0]["level"]:
            continue
        if json.loads(ends[1]["parameter"])["effective"] >= LEAST_CRF:
            right[ends[1]["source_id"]].append(bool(pair["correct"]))
    return {"right": sum(map(all, right.values())), "clips": len(right)}


def _quarters(files: Mapping[str, float]) -> dict[str, Any]:
    """Of how many clips the copy of a quarter of the height scores below the clip."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for path, score in files.items():
        scores[os.path.basename(path)][os.path.basename(os.path.dirname(path))] = score
    both = {name: (v[WHOLE], v[QUARTER]) for name, v in scores.items() if len(v) == 2}
    wrong = sorted(name for name, (whole, quarter) in both.items() if quarter >= whole)
    return {"right": len(both) - len(wrong), "clips": len(both), "wrong": wrong}


def _by_vmaf(
    rows: Mapping[str, Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for score in scores:
        row = rows[score["video_id"]]
        vmaf = row.get("vmaf")
        if row["simulator"] in (*CODECS, *SCALED) and vmaf is not None and score["error"] is None:
            points[row["source_id"]].append((score["score"], vmaf))
    found = [float(stats.spearmanr(*zip(*p, strict=True))[0]) for p in points.values()]
    if not found:
        return None
    return {"mean": float(np.mean(found)), "lowest": min(found), "clips": len(found)}


def text_of(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    low, high = found["interval"]
    lines = [f"{name:20} {value:7.1%}" for name, value in sorted(found["by_simulator"].items())]
    lines.append(f"{'mean':20} {found['accuracy']:7.1%}  95% over clips [{low:.1%}, {high:.1%}]")
    for codec, copies in found["crf"].items():
        told = f"original before copies of CRF >= {LEAST_CRF}"
        lines.append(f"{codec}: {told}: {copies['right']} of {copies['clips']} clips")
    quarter = found["quarter"]
    wrong = ", but not " + ", ".join(quarter["wrong"]) if quarter["wrong"] else ""
    lines.append(f"quarter of the height below: {quarter['right']} of {quarter['clips']}{wrong}")
    if vmaf := found["vmaf"]:
        lines.append(f"rank agreement with VMAF: mean {vmaf['mean']:.3f}, low {vmaf['lowest']:.3f}")
    return "\n".join(lines)


def _cut(args: argparse.Namespace) -> str:
    return f"{cut(args.clips, args.out, args.seconds, args.lines)} clips in {args.out}"


def _tell(args: argparse.Namespace) -> str:
    with open(os.path.join(args.evaluation, "evaluation.json"), encoding="utf-8") as text:
        evaluation = json.load(text)
    pairs, scores = (
        parquet.read_table(os.path.join(args.evaluation, f"{name}.parquet")).to_pylist()
        for name in ("pairs", "scores")
    )
    files = read_files(args.scores)
    found = told([*read_video_table(args.data)], evaluation, pairs, scores, files)
    write_json(args.out, found)
    return text_of(found)


def read_files(path: str) -> dict[str, float]:
    """Path -> score of a table of `score --csv`; files without a score are left out."""
    with open(path, encoding="utf-8", newline="") as text:
        rows = [*csv.DictReader(text)]
    return {row["path"]: float(row["score"]) for row in rows if row["score"]}


def main() -> None:
    """One of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("cut")
    sub.add_argument("--clips", required=True)
    sub.add_argument("--out", required=True)
    sub.add_argument("--seconds", type=float, default=2.0)
    sub.add_argument("--lines", type=int, default=0)
    sub.set_defaults(run=_cut)
    sub = commands.add_parser("tell")
    for name in ("data", "evaluation", "scores", "out"):
        sub.add_argument(f"--{name}", required=True)
    sub.set_defaults(run=_tell)
    args = parser.parse_args()
    print(args.run(args))


if __name__ == "__main__":
    main()
