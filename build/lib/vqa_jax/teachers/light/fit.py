"""Fits light teachers on pictures with human scores: `vqa_jax teachers fit`.

    FOLDER/NAME.json, NAME.safetensors, NAME.folds.safetensors    one teacher, see `model`
    FOLDER/oof.csv           every picture: fold, group, kind, human score, and the score of every
                             teacher by the regression that did not see the picture's fold
    FOLDER/left_out.csv      pictures that could not be used, with the reason
    FOLDER/fit.json          manifest

Features are computed once and kept until the manifest is written; a killed job goes on.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax.benchmarks import labels, metrics
from vqa_jax.jobs import contents, csv_cells, files, ranges
from vqa_jax.jobs.published import Publication
from vqa_jax.media import isolation
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.settings import DEFAULT_LIMITS, DecodeLimits
from vqa_jax.teachers.light import features, folds, model
from vqa_jax.teachers.light.fitting import SHIPPED, VOTING, Size, chosen_shape, fitted
from vqa_jax.teachers.light.model import LightTeacherError
from vqa_jax.teachers.light.regression import Regression
from vqa_jax.teachers.views import View, read_views

MANIFEST, OUT_OF_FOLD, LEFT_OUT = "fit.json", "oof.csv", "left_out.csv"
_RANGE = 128  # pictures that a restart looks at again at most
_LEAST = 50  # pictures, below which nothing can be said of a regression
_LEAST_KIND = 20  # pictures of a kind that is left out, or whose SRCC is told


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How light teachers are fitted.

    Attributes:
      families: keys of `features.FAMILIES`, one a teacher.
      folds: of the cross-validation.
      seed: of folds and of chosen pictures.
      trained_on: the set of human scores, in words, for the cards.
      terms: of scores and pictures, for the cards.
      towers: folder of towers that are not shipped; "" for none.
      workers: threads that decode.
      limits: of each picture.
    """

    families: tuple[str, ...]
    folds: int = 10
    seed: int = 0
    trained_on: str = "not stated"
    terms: str = "not stated"
    towers: str = ""
    workers: int = 2
    limits: DecodeLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        unknown = set(self.families) - features.FAMILIES.keys()
        if unknown or not self.families:
            known = ", ".join(features.FAMILIES)
            raise ValueError(f"no teacher {', '.join(sorted(unknown))}; known: {known}")
        if self.folds < 2 or self.workers < 1:
            raise ValueError("folds start at 2, workers at 1")


def fit(scores: str, photographs: str, out: str, config: FitConfig) -> dict[str, Any]:
    """Fits teachers and writes them to folder `out`; returns the manifest.

    Args:
      scores: table of human scores, see `benchmarks.labels`; higher is better.
      photographs: folder of the pictures, which the table names by their paths below it.
      out: folder to write.
      config: see FitConfig.

    Raises:
      LabelsError: the table cannot be read.
      LightTeacherError: a tower is missing, or too few pictures can be used.
      CorpusError: `out` holds teachers that were fitted on something else.
    """
    for family in config.families:
        if (lite := features.FAMILIES[family].lite) is not None:
            features.tower_path(lite, config.towers)  # before anything is computed
    table = labels.read_labels(scores)
    paths = [os.path.join(photographs, name) for name in table.names]
    identity = {
        "scores": files.file_sha256(scores),
        "pictures": f"{files.key_hash(repr(contents.stamps(paths))):016x}",
        "families": list(config.families),
        "folds": config.folds,
        "seed": config.seed,
        "words": [config.trained_on, config.terms],
        "view": features.VIEW.fingerprint(),
        "version": features.VERSION,
    }
    # Features depend on less than the fit, so that they outlive other settings.
    seen = [identity[name] for name in ("scores", "pictures", "families", "view", "version")]
    work = os.path.join(out, f"work_{files.key_hash(repr(seen)):016x}")
    publication = Publication(
        os.path.join(out, MANIFEST), work, lambda found: _is_same(out, found, identity), lock=out
    )
    if manifest := publication.found():
        return manifest
    units = [range(k, min(k + _RANGE, len(paths))) for k in range(0, len(paths), _RANGE)]
    parts = [os.path.join(work, f"range-{k:06d}.npz") for k in range(len(units))]
    extractor = features.Extractor(config.towers)

    def make(k: int, bar: tqdm) -> None:
        found = _looked_at([paths[i] for i in units[k]], extractor, config, bar)
        with files.replacing(parts[k]) as temporary, open(temporary, "wb") as file:
            np.savez(file, **found)
        ranges.mark(parts[k])

    sizes, marks = [len(unit) for unit in units], [ranges.mark_of(part) for part in parts]
    whole = [*map(ranges.is_whole, parts)]
    ranges.compute(sizes, marks, make, ranges.Share(), "pictures", whole.__getitem__)
    return (
        publication.publish(0, lambda: _publish(out, table, parts, identity, config))
        or publication.found()
    )  # type: ignore[return-value]


def _is_same(out: str, found: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    if found["identity"] != dict(identity):
        raise files.CorpusError(f"{out} holds teachers of another fit: choose another --out")
    return True


def _looked_at(
    paths: Sequence[str], extractor: features.Extractor, config: FitConfig, bar: tqdm
) -> dict[str, np.ndarray]:
    """Features of pictures, rows of zeros and a reason for those that cannot be used."""
    with concurrent.futures.ThreadPoolExecutor(config.workers) as pool:
        looks = list(pool.map(lambda path: _look(path, config.limits), paths))
    good = [look for look in looks if not isinstance(look, str)]
    places = np.array([k for k, look in enumerate(looks) if not isinstance(look, str)], int)
    found: dict[str, np.ndarray] = {
        "reasons": np.array([look if isinstance(look, str) else "" for look in looks], str),
        "hashes": np.zeros((len(looks), 64), np.uint8),
    }
    if good:
        found["hashes"][places] = [folds.thumbnail_hash(picture) for picture in good]
    for family in config.families if good else ():
        rows = extractor(family, good)
        found[family] = np.zeros((len(looks), rows.shape[1]), np.float32)
        found[family][places] = rows
    bar.update(len(looks))
    return found


def _look(path: str, limits: DecodeLimits) -> np.ndarray | str:
    """A picture in the viewing size, or why it cannot be had."""

    def plan(info: VideoInfo) -> dict[str, View]:
        return {"seen": View(np.zeros(1, int), lambda place, frame: features.seen(frame))}

    try:
        info = isolation.call(limits, path, probe, path, limits.pixels)
        return read_views(info, plan, limits)[0]["seen"][0]
    except MediaError as error:
        return f"{error.reason} [{error.stage}]"


def _publish(
    out: str,
    table: labels.Labels,
    parts: Sequence[str],
    identity: Mapping[str, Any],
    config: FitConfig,
) -> dict[str, Any]:
    """Fits and writes everything, the manifest last."""
    files.remove_temporary(out)
    stored = [dict(np.load(part, allow_pickle=False)) for part in parts]
    reasons = np.concatenate([part["reasons"] for part in stored])
    kept = np.flatnonzero(reasons == "")
    _write_left_out(out, table, reasons)
    if len(kept) < _LEAST:
        raise LightTeacherError(
            f"{len(kept)} pictures of {len(table.names)} can be used, {_LEAST} are needed: see "
            f"{os.path.join(out, LEFT_OUT)}"
        )

    def column(name: str) -> np.ndarray:
        wide = max(part[name].shape[1] for part in stored if name in part)
        empty = [np.zeros((len(part["reasons"]), wide), np.float32) for part in stored]
        return np.concatenate([p.get(name, e) for p, e in zip(stored, empty, strict=True)])[kept]

    names = [table.names[k] for k in kept]
    kinds = np.array([os.path.dirname(name) for name in names])
    mos = table.mos[kept]
    shown = [table.contents[k] for k in kept] if table.contents else ()
    group = folds.groups(column("hashes").astype(np.uint8), shown)
    fold = folds.folds(group, kinds.tolist(), config.folds, config.seed)
    facts = {
        "view": features.VIEW.fingerprint(),
        "trained_on": config.trained_on,
        "scores_sha256": identity["scores"],
        "pictures": len(kept),
        "folds": config.folds,
        "seed": config.seed,
        "groups": len(np.unique(group)),
        "low": float(np.percentile(mos, 5)),
        "high": float(np.percentile(mos, 95)),
        "terms": config.terms,
    }
    unseen = {}
    for family in tqdm(config.families, "teachers"):
        found = column(family)
        balance = features.balance(family, found.shape[1])
        by_fold = [
            _fitted(found[fold != k], mos[fold != k], balance, VOTING, config)
            for k in range(config.folds)
        ]
        unseen[family] = out_of_fold(found, fold, by_fold)
        card = model.LightCard(
            name=model.teacher_name(family),
            family=family,
            summary=features.FAMILIES[family].summary,
            cross_validated=agreement(unseen[family], mos, kinds),
            left_out=_left_out(found, mos, group, kinds, balance, config),
            **facts,
        )
        whole = _fitted(found, mos, balance, SHIPPED, config)
        model.save(out, card, whole, by_fold)
        logging.info("%s: SRCC %.3f over folds", card.name, card.cross_validated.pooled)
    _write_unseen(out, names, fold, group, kinds, mos, unseen)
    manifest = {
        "identity": dict(identity),
        "pictures": len(kept),
        "left_out": len(reasons) - len(kept),
    }
    files.write_sealed(os.path.join(out, MANIFEST), manifest)
    return manifest


def _fitted(
    found: np.ndarray,
    mos: np.ndarray,
    balance: np.ndarray,
    size: Size,
    config: FitConfig,
) -> Regression:
    """A regression whose shape, too, was chosen on these pictures alone."""
    shape = chosen_shape(found, mos, balance, config.seed)
    return fitted(found, mos, balance, shape, size, config.seed)


def out_of_fold(found: np.ndarray, fold: np.ndarray, by_fold: Sequence[Regression]) -> np.ndarray:
    """Scores float64 [N] of pictures by the regressions that did not see them."""
    scores = np.zeros(len(found))
    for k, regression in enumerate(by_fold):
        scores[fold == k] = regression(found[fold == k])
    return scores


def agreement(scores: np.ndarray, mos: np.ndarray, kinds: np.ndarray) -> model.Agreement:
    """SRCC with people, of all pictures and in the mean over kinds."""
    pooled = _srcc(scores, mos)
    told = [kind for kind in np.unique(kinds) if np.sum(kinds == kind) >= _LEAST_KIND]
    within = [_srcc(scores[kinds == kind], mos[kinds == kind]) for kind in told]
    return model.Agreement(pooled, float(np.mean(within)) if within else pooled)


def _srcc(scores: np.ndarray, mos: np.ndarray) -> float:
    return metrics.correlate(scores, mos, ("srcc",))["srcc"]


def _left_out(
    found: np.ndarray,
    mos: np.ndarray,
    group: np.ndarray,
    kinds: np.ndarray,
    balance: np.ndarray,
    config: FitConfig,
) -> tuple[model.LeftOut, ...]:
    """SRCC on every kind of a regression that saw the other kinds alone."""
    told = []
    for kind in np.unique(kinds):
        inside = kinds == kind
        if _LEAST_KIND <= inside.sum() <= len(kinds) - _LEAST_KIND:
            # A near copy of another kind would tell the answer.
            seen = ~inside & ~np.isin(group, group[inside])
            regression = _fitted(found[seen], mos[seen], balance, VOTING, config)
            told.append(model.LeftOut(str(kind), _srcc(regression(found[inside]), mos[inside])))
    return tuple(told)


def _write_left_out(out: str, table: labels.Labels, reasons: np.ndarray) -> None:
    with files.written(os.path.join(out, LEFT_OUT), newline="") as text:
        rows = csv_cells.Writer(text)
        rows.writerow(["path", "reason"])
        rows.writerows(
            (name, reason) for name, reason in zip(table.names, reasons, strict=True) if reason
        )


def _write_unseen(
    out: str,
    names: Sequence[str],
    fold: np.ndarray,
    group: np.ndarray,
    kinds: np.ndarray,
    mos: np.ndarray,
    unseen: Mapping[str, np.ndarray],
) -> None:
    """The table of votes out of fold, a picture a row."""
    with files.written(os.path.join(out, OUT_OF_FOLD), newline="") as text:
        rows = csv_cells.Writer(text)
        rows.writerow(["path", "fold", "group", "kind", "mos", *map(model.teacher_name, unseen)])
        votes = np.stack(list(unseen.values()), 1)
        for k, name in enumerate(names):
            facts = [files.printable(name), int(fold[k]), int(group[k]), kinds[k], float(mos[k])]
            rows.writerow([*facts, *(f"{vote:.4f}" for vote in votes[k])])
