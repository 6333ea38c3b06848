"""What a student sees in a video besides its score: kinds of flaw, pictures and motion, places.

All of it is the student's own opinion, asked in other ways:

- **flaws**: the auxiliary head, trained to tell which simulator and level a frame shows;
- **pictures, motion**: the score with the other one held neutral: no motion, as of a still picture;
  or grey frames, behind a frozen tower the means of what it saw of the corpus;
- **places**: the score of each tile, or of each cell of a frozen tower, as if all were like it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vqa_jax.media import isolation, sources, view
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.probe import probe
from vqa_jax.media.sources import Source
from vqa_jax.models.cell_tower import program_dtype
from vqa_jax.models.student import Student
from vqa_jax.scoring import pictures
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import ScoreConfig
from vqa_jax.weights.flaw_head import FlawHead, HeadError

SHOWN = 5  # kinds of flaw that are told
NOT = (
    "Kinds are the simulators that the student was trained with: a flaw that none of them makes "
    "gets the name of the nearest. Their probabilities are not calibrated, and the score does not "
    "use them. The scores of pictures and of motion do not add up to the score. Colours tell how "
    "the student likes each place in comparison with the others of this video: neither how bad "
    "it is, nor where people look. A tile shows one moment of the video, a cell all of it."
)
_AT_ONCE = 8  # frames in one call for their flaws
_GREY = 127


@dataclasses.dataclass(frozen=True)
class Flaw:
    """A kind of flaw.

    Attributes:
      kind: the simulator whose work it looks like.
      probability: 0..1, over all levels.
      level: its mean level, from 1 (mild) to `levels` (severe).
      levels: how many the simulator has.
    """

    kind: str
    probability: float
    level: float
    levels: int


@dataclasses.dataclass(frozen=True)
class Place:
    """A tile or cell of the frames, in shares 0..1 of height and width, and its score."""

    top: float
    left: float
    bottom: float
    right: float
    score: float


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a student sees in a video.

    Attributes:
      path: as given.
      flaws: the likeliest kinds, likeliest first.
      undistorted: probability that the frames show none of them.
      score: of the video.
      pictures: with motion held neutral.
      motion: with pictures held neutral; None for a still picture.
      places: tiles or cells; none where the student reads frames whole.
      heat: JPEG of the video's middle key frame, coloured by them; None where there are none.
      time: of that frame, seconds.
    """

    path: str
    flaws: tuple[Flaw, ...]
    undistorted: float
    score: float
    pictures: float
    motion: float | None
    places: tuple[Place, ...]
    heat: bytes | None
    time: float


def head_of(student: Predictor) -> FlawHead:
    """The student's auxiliary head.

    Raises:
      HeadError: it has none.
    """
    if (head := student.flaw_head) is None:
        raise HeadError(
            f"{student.folder or 'this student'} has no auxiliary head, which tells flaws apart: "
            "name a student that was trained with train.severity_weight above 0"
        )
    return head


def explain(student: Predictor, video: Source, config: ScoreConfig | None = None) -> Explanation:
    """Asks a student about a video in all these ways.

    Args:
      student: with anchors and an auxiliary head.
      video: a path, URL, open binary file or bytes; decoded once, then up to its middle.
      config: how it is scored, and the limits of the file.

    Raises:
      AnchorError: the student has no anchors.
      HeadError: it has no auxiliary head.
      MediaError: the file cannot be used.
    """
    config, head = config or ScoreConfig(), head_of(student)
    with sources.local(video, config.limits.seconds) as path:
        info = isolation.call(config.limits, path, probe, path, config.limits.pixels)
        (seen,) = student.engine.tower_tokens([student.read(path, limits=config.limits)])
        keys = view.key_frame_indices(info.num_frames, info.fps)
        number = keys[len(keys) // 2]
        ((_, frame),) = isolated_frames(info, [number], config.limits)
        is_still = view.is_image(path, info.num_frames)
    parts, rectangles = _places(student, seen, frame.shape[:2])
    asked = [seen, _without_motion(seen), _without_pictures(student, seen), *parts]
    verdicts = student.judge.score(list(student.engine.encode(asked)), config)
    score, of_pictures, of_motion, *of_places = (verdict.score.score for verdict in verdicts)
    places = tuple(Place(*r, s) for r, s in zip(rectangles, of_places, strict=True))
    undistorted, flaws = _flaws(head, _means(student, seen))
    return Explanation(
        sources.name_of(video),
        flaws,
        undistorted,
        score,
        of_pictures,
        None if is_still else of_motion,
        places,
        pictures.heated(frame, rectangles, of_places) if places else None,
        number / info.fps,
    )


def _without_motion(video: VideoInput) -> VideoInput:
    return dataclasses.replace(video, motion=np.zeros_like(video.motion[:1]))


def _without_pictures(student: Predictor, video: VideoInput) -> VideoInput:
    neutral = np.full_like(video.frames, _GREY)
    if student.engine.spec.tower:
        mean = student.applied(_tower_mean)
        neutral = np.broadcast_to(mean.astype(video.frames.dtype), video.frames.shape)
    return dataclasses.replace(video, frames=neutral)


def _tower_mean(student: Student) -> jax.Array:
    return student.vision.mean[...].astype(jnp.float32)


def _places(
    student: Predictor, video: VideoInput, size: tuple[int, int]
) -> tuple[list[VideoInput], list[tuple[float, float, float, float]]]:
    """The video as each of its tiles or cells alone, and where these lie."""
    spec, frames = student.engine.spec, video.frames
    if spec.tower:
        side, tokens = spec.student.vision.grid, frames.shape[2]
        alone = [frames[:, :, [cell] * tokens] for cell in range(tokens)]
        corners = [divmod(cell, side) for cell in range(tokens)]
        places = [(y / side, x / side, (y + 1) / side, (x + 1) / side) for y, x in corners]
    elif spec.preprocess.view == "crops":
        pre, groups = spec.preprocess, len(frames)
        count = groups * frames.shape[1]  # dealt to groups as by `crops.scoring_groups`
        alone = [frames[tile % groups, tile // groups][None, None] for tile in range(count)]
        enlarged = max(1.0, pre.tile_size / min(size))
        height, width = (max(pre.tile_size, round(n * enlarged)) for n in size)
        corners = view.tile_positions(height, width, pre)[:count]
        edge = (pre.tile_size - pre.image_size) / 2
        places = [
            (
                (y + edge) / height,
                (x + edge) / width,
                (y + edge + pre.image_size) / height,
                (x + edge + pre.image_size) / width,
            )
            for y, x in corners
        ]
    else:
        return [], []
    return [dataclasses.replace(video, frames=part) for part in alone], places


def _means(student: Predictor, video: VideoInput) -> np.ndarray:
    """Means of the tower's tokens over each frame, float32 [N, W]."""
    frames = video.frames.reshape(-1, *video.frames.shape[2:])
    frames = frames.astype(program_dtype(frames.dtype), copy=False)
    found = []
    for start in range(0, len(frames), _AT_ONCE):
        part = frames[start : start + _AT_ONCE]
        filler = np.zeros((_AT_ONCE - len(part), *part.shape[1:]), part.dtype)
        found.append(student.applied(_frame_means, np.concatenate([part, filler]))[: len(part)])
    return np.concatenate(found)


def _frame_means(student: Student, frames: jax.Array) -> jax.Array:
    return student.tower_tokens(frames).astype(jnp.float32).mean(-2)


def _flaws(head: FlawHead, means: np.ndarray) -> tuple[float, tuple[Flaw, ...]]:
    """Probability of none, and the likeliest kinds, of the mean over frames as in training."""
    logits = means.mean(axis=0) @ head.kernel + head.bias
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    of_kinds = shares[1:].reshape(len(head.simulators), head.levels)
    levels = np.arange(1, head.levels + 1)
    flaws = [
        Flaw(kind, float(row.sum()), float(row @ levels / max(row.sum(), 1e-30)), head.levels)
        for kind, row in zip(head.simulators, of_kinds, strict=True)
    ]
    likeliest = sorted(flaws, key=lambda flaw: -flaw.probability)[:SHOWN]
    return float(shares[0]), tuple(likeliest)
