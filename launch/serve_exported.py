"""python launch/serve_exported.py EXPORT [VIDEO]: scores with jax, numpy and safetensors alone.

VIDEO is an .npz of the arrays that manifest.json describes, or a video file: then PyAV, Pillow and
the project's folder `vqa_jax/media` are wanted, too. Without it the self-test's video is scored.
"""

import hashlib
import json
import pathlib
import sys

import jax
import jax.export
import numpy as np
from safetensors.numpy import load_file

INPUTS = ("frames", "motion", "num_frames", "num_motion")


def checked(folder):
    """The manifest of a whole and undamaged export."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        form, digests = manifest["format"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{folder} is no export ({error}): name a folder made by `export`")
    if form != "stablehlo":
        sys.exit(f"{folder} holds parameters ({form}), no programs: export with format stablehlo")
    for name, digest in digests.items():
        path = folder / name
        if pathlib.PurePath(name).is_absolute() or ".." in pathlib.PurePath(name).parts:
            sys.exit(f"{folder}: its manifest names {name}, which is not in it")
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            sys.exit(f"{path} is missing or damaged: copy or export it again")
    return manifest


def padded(values, count, axis):
    """The values with zeros behind them, up to `count` along an axis."""
    return np.pad(values, [(0, (count - n) * (k == axis)) for k, n in enumerate(values.shape)])


def arrays_of(path, settings):
    """The arrays of a video file: key frames, tiles, groups and motion clips as in training."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
    try:
        from vqa_jax.errors import VqaError
        from vqa_jax.media import crops, view
        from vqa_jax.media.preprocess import Preprocess
    except ImportError as error:
        sys.exit(f"a video file needs PyAV, Pillow and vqa_jax/media ({error}); or give an .npz")
    num_frames, _ = settings.pop("num_frames"), settings.pop("motion_extractor")
    pre = Preprocess(**settings)
    try:
        frames, clips, info = view.video_input(path, pre)
    except VqaError as error:
        sys.exit(str(error))
    groups = crops.scoring_groups(frames, pre, num_frames)
    still = view.is_image(path, info.num_frames)
    return {
        "frames": padded(groups, num_frames, 1),
        "clips": padded(clips, max(1, pre.max_clips), 0),
        "num_frames": np.int32(groups.shape[1]),
        "num_motion": np.int32(1 if still else len(clips)),
        "still": still,
    }


class Scorer:
    """An export at work."""

    def __init__(self, folder, manifest):
        programs = folder.glob("*.stablehlo")
        loaded = {p.stem: jax.export.deserialize(p.read_bytes()) for p in programs}
        self.run = {name: jax.jit(program.call) for name, program in loaded.items()}
        self.weights, self.anchors, self.test = (
            load_file(folder / name) for name in manifest["loads"]
        )
        self.cache = self.run["prepare"](self.weights, *(self.anchors[k] for k in INPUTS))
        self.groups = len(self.anchors["frames"]) // len(self.anchors["matrix"])

    def logits(self, video):
        """Level logits against every anchor, averaged over the video's groups of frames."""
        frames, motion = video["frames"], video.get("motion")
        if motion is None:
            motion = np.asarray(self.run["motion"](self.weights, video["clips"]))
            motion = motion * (not video.get("still", False))  # as in training
        if (tower := f"tower_{frames.shape[2]}x{frames.shape[3]}") in self.run:
            flat = frames.reshape(-1, 1, *frames.shape[2:])
            tokens = [np.asarray(self.run[tower](self.weights, frame)) for frame in flat]
            halves = np.concatenate(tokens).astype(np.float16)  # as they are stored
            frames = halves.astype(np.float32).reshape(*frames.shape[:2], *halves.shape[1:])
        if self.groups not in (1, len(frames)):
            sys.exit(f"{len(frames)} groups of frames, and anchors of {self.groups}")
        rest = motion, video["num_frames"], video["num_motion"]
        parts = [frames[k : k + self.groups] for k in range(0, len(frames), self.groups)]
        found = [self.run["levels"](self.weights, *self.cache, part, *rest) for part in parts]
        return np.mean(found, axis=0)


def main():
    """Checks the export, runs its self-test, scores the video."""
    folder = pathlib.Path(sys.argv[1])
    manifest = checked(folder)
    scorer = Scorer(folder, manifest)
    test = scorer.test
    if not np.abs(scorer.logits(test) - test["logits"]).max() <= manifest["selftest"]["atol"]:
        sys.exit("the self-test fails: do not use this export here")
    video = test
    if len(sys.argv) > 2 and sys.argv[2].endswith(".npz"):
        video = dict(np.load(sys.argv[2]))
    elif len(sys.argv) > 2:
        video = arrays_of(sys.argv[2], manifest["preprocessing"])
    score = scorer.run["solve"](scorer.anchors, scorer.logits(video))
    sys.stdout.write(f"score {float(score):.4f}\n")


if __name__ == "__main__":
    main()
