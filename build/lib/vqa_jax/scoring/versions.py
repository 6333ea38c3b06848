"""Which of several versions is best: every pair in both orders, one ranking, and gates on it."""

from __future__ import annotations

import dataclasses
import itertools
import re
import string
from collections.abc import Iterable, Sequence

import numpy as np

from vqa_jax.media import isolation, sources
from vqa_jax.media.container import MediaError
from vqa_jax.media.sources import Source
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.engine import EncodedVideo, VideoInput
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import ScoreConfig, SettingsError

REFERENCE = "REF"  # name of the source that the others were made from
MOST = len(string.ascii_uppercase)

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_SIDE = (
    r"(?:(?:P\(([A-Z]|REF)>([A-Z]|REF)\)|([A-Z]|REF))"
    rf"([-+]{_NUMBER})?|([-+]?{_NUMBER}))"
)
_CONDITION = re.compile(rf"{_SIDE}([<>]){_SIDE}")


@dataclasses.dataclass(frozen=True)
class Version:
    """One of the videos.

    Attributes:
      name: A, B, C ... in the given order; REFERENCE.
      path: as given.
      rank: 1 is the best; None with `error`, as are the numbers.
      q, q_std: Thurstone score among the versions (unit normal prior) and its std.
      score, std: on the anchors' scale, as `score` gives them; None where there are no anchors.
      error: why it cannot be used.
      notes: what there is to know of it, or "".
    """

    name: str
    path: str
    rank: int | None = None
    q: float | None = None
    q_std: float | None = None
    score: float | None = None
    std: float | None = None
    error: str | None = None
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two versions, shown in both orders.

    Attributes:
      first, second: their names.
      level_probs, second_better, contradictory: see `results.PairResult`.
    """

    first: str
    second: str
    level_probs: dict[str, float]
    second_better: float
    contradictory: bool


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Versions in the given order, the reference last; `pairs`: all of those that can be used."""

    versions: tuple[Version, ...]
    pairs: tuple[Pair, ...]
    scale: str
    model: str

    @property
    def usable(self) -> list[Version]:
        """Versions that were compared, best first."""
        return sorted((v for v in self.versions if v.error is None), key=lambda v: v.rank)

    def better(self, one: str, other: str) -> float:
        """Probability that version `one` is better than `other`, by names.

        Raises:
          SettingsError: there are no such versions, or one of them could not be used.
        """
        for pair in self.pairs:
            if {pair.first, pair.second} == {one, other}:
                return pair.second_better if pair.second == one else 1 - pair.second_better
        raise SettingsError(f"{one} and {other} were not compared")


def rank(
    student: Predictor,
    videos: Sequence[Source],
    reference: Source | None = None,
    config: ScoreConfig | None = None,
) -> Ranking:
    """Compares all versions with each other.

    Args:
      student: with anchors or without.
      videos: two at least, one with a reference; see `predictor.Video`.
      reference: their common source.
      config: how the scores against anchors are made, and the limits of each file.

    Raises:
      SettingsError: too few or too many.
    """
    if not 1 + (reference is None) <= len(videos) <= MOST:
        raise SettingsError(f"{len(videos)} versions: give two to {MOST}, or one and a reference")
    config = config or ScoreConfig()
    isolation.start(config.limits)
    given = list(zip(string.ascii_uppercase, videos, strict=False))
    if reference is not None:
        given.append((REFERENCE, reference))
    versions, inputs = _read(student, given, config)
    good = [k for k, version in enumerate(versions) if version.error is None]
    encoded = list(student.engine.encode(inputs))
    pairs: tuple[Pair, ...] = ()
    if encoded:
        pairs, matrix = ask(student, [versions[k].name for k in good], encoded)
        q, q_std = thurstone.map_scores(matrix)
        verdicts = student.judge.score(encoded, config) if student.has_anchors else []
        places = np.argsort(np.argsort(-q, kind="stable")) + 1
        for n, k in enumerate(good):
            numbers = {"rank": int(places[n]), "q": float(q[n]), "q_std": float(q_std[n])}
            if verdicts:
                verdict = verdicts[n]
                numbers |= {"score": verdict.score.score, "std": verdict.score.std}
                numbers["notes"] = "; ".join(filter(None, (versions[k].notes, verdict.note)))
            versions[k] = dataclasses.replace(versions[k], **numbers)
    scale = student.judge.describe() if student.has_anchors else "no anchors: ranks alone"
    return Ranking(tuple(versions), pairs, scale, student.fingerprint)


def _read(
    student: Predictor, given: Iterable[tuple[str, Source]], config: ScoreConfig
) -> tuple[list[Version], list[VideoInput]]:
    """A version for each video, and what the student sees of those that can be used."""
    versions, inputs = [], []
    for name, video in given:
        version = Version(name, sources.name_of(video))
        try:
            found = student.read(video, limits=config.limits)
        except MediaError as error:
            version = dataclasses.replace(version, error=f"{error.reason} [{error.stage}]")
        else:
            version = dataclasses.replace(version, notes=found.notes)
            inputs.append(found)
        versions.append(version)
    return versions, inputs


def ask(
    student: Predictor, names: Sequence[str], encoded: Sequence[EncodedVideo]
) -> tuple[tuple[Pair, ...], np.ndarray]:
    """Asks about all pairs, in both orders; the pairs, and probability [n, n] that i beats j.

    Args:
      student: asked.
      names: of the videos.
      encoded: they, by its engine.
    """
    places = list(itertools.combinations(range(len(encoded)), 2))
    found = student.compare_encoded([(encoded[i], encoded[j]) for i, j in places])
    matrix = np.full((len(encoded), len(encoded)), 0.5)
    pairs = []
    for (i, j), result in zip(places, found, strict=True):
        matrix[i, j], matrix[j, i] = 1 - result.second_better, result.second_better
        told = result.level_probs, result.second_better, result.contradictory
        pairs.append(Pair(names[i], names[j], *told))
    return tuple(pairs), matrix


def holds(condition: str, ranking: Ranking) -> bool:
    """Whether a condition such as "B<A-5", "A<60" or "P(B>A)<0.4" is true.

    A name alone is the version's score; P(X>Y) is the probability that X is better than Y.

    Raises:
      SettingsError: no condition, versions that are not there or could not be used, or scores of a
        student without anchors.
    """
    left, less, right = parsed(condition)
    one, other = (_value(side, ranking, condition) for side in (left, right))
    return one < other if less else one > other


def parsed(condition: str) -> tuple[Sequence[str | None], bool, Sequence[str | None]]:
    """The two sides of a condition, and whether the left one is to be less.

    Raises:
      SettingsError: it is none.
    """
    match = _CONDITION.fullmatch(re.sub(r"\s", "", condition))
    if match is None:
        raise SettingsError(
            f"condition {condition!r}: write NAME<NAME-NUMBER, NAME<NUMBER or P(NAME>NAME)<NUMBER, "
            'with < or >, as "B<A-5"'
        )
    groups = match.groups()
    return groups[:5], groups[5] == "<", groups[6:]


def _value(side: Sequence[str | None], ranking: Ranking, condition: str) -> float:
    better, worse, name, added, number = side
    value = float(added or number or 0)
    if better:
        return value + ranking.better(better, worse)
    if name is None:
        return value
    found = [v.score for v in ranking.versions if v.name == name]
    if not found or found[0] is None:
        raise SettingsError(f"condition {condition!r}: {name} has no score")
    return value + found[0]
