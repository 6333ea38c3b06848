"""Steps of `launch/ablation.sh` that no command does.

python -m launch.ablation pictures --scores FILE --photographs DIR --kind NAME --out WORLD
python -m launch.ablation heights --photographs DIR --world WORLD
python -m launch.ablation one --scores FILE --teacher NAME --out FILE
python -m launch.ablation tower --seed N --out FILE
python -m launch.ablation teachers --world WORLD --scores FILE --out ROWS --seed N --kind NAME
python -m launch.ablation ask --student DIR --world WORLD --corpus DIR --data DIR --out DIR
python -m launch.ablation row --world WORLD --corpus DIR --evaluation DIR [--clips DIR]
    [--heights FILE] --out FILE
python -m launch.ablation table --rows DIR --out DIR
"""

from __future__ import annotations

import argparse
import csv
import os

from launch.ablation import pictures, rows, table
from vqa_jax.benchmarks import score_tables
from vqa_jax.jobs import csv_cells, files

MEAN = "teachers_mean"  # row of the mean of all teachers' ranks


def _pictures(args: argparse.Namespace) -> str:
    counts = pictures.write_world(args.scores, args.photographs, args.kind, args.out)
    return f"{args.out}: {counts}"


def _heights(args: argparse.Namespace) -> str:
    names = [name for name, seen in rows.asked(args.world).items() if seen.fold == pictures.FOLDS]
    folder = os.path.join(args.world, "heights")
    return f"{folder}: {pictures.write_heights(args.photographs, names, folder)} pictures"


def _one(args: argparse.Namespace) -> str:
    """The votes of one teacher alone, of a table of several."""
    found = score_tables.read_scores([args.scores])
    scores = found.scores[:, found.teachers.index(args.teacher)]
    with files.written(args.out, newline="") as text:
        cells = csv_cells.Writer(text)
        cells.writerow(["video", args.teacher])
        known = zip(found.videos, scores.tolist(), strict=True)
        cells.writerows((video, repr(score)) for video, score in known if score == score)
    return f"votes of {args.teacher}: {args.out}"


def _tower(args: argparse.Namespace) -> str:
    """The tower of the small student as it is before anybody trained it."""
    from safetensors.numpy import save_file

    from vqa_jax.models.functional import FunctionalStudent
    from vqa_jax.models.presets import PRESETS
    from vqa_jax.weights import bundle

    params = FunctionalStudent(PRESETS["small"]).init(args.seed)
    with files.replacing(args.out) as temporary:
        save_file(bundle.flatten(params["vision"]["network"]), temporary)
    return f"random tower: {args.out}"


def _teachers(args: argparse.Namespace) -> str:
    """Rows of the teachers themselves, and of the mean of their ranks."""
    import numpy as np
    from scipy import stats

    lines = rows.of_scores(args.world, args.scores)
    ranks = [stats.rankdata([line[3] for line in column]) for column in lines.values()]
    first = next(iter(lines.values()))
    mean = zip(first, np.mean(ranks, axis=0).tolist(), strict=True)
    lines[MEAN] = [(*line[:3], rank, line[4]) for line, rank in mean]
    for name, column in lines.items():
        rows.write(os.path.join(args.out, f"{name}.{args.seed}.{args.kind}.csv"), column)
    return f"rows of {', '.join(lines)}"


def _ask(args: argparse.Namespace) -> str:
    from launch.ablation import opinion

    opinion.ask(args.student, args.world, args.corpus, args.data, args.out)
    return f"asked: {args.out}"


def _row(args: argparse.Namespace) -> str:
    lines = [*rows.of_run(args.world, args.corpus, args.evaluation, args.clips)]
    if args.heights:
        lines += _stored(args.world, args.heights)
    rows.write(args.out, lines)
    return f"row: {args.out}"


def _stored(world: str, path: str) -> list[rows.Line]:
    """Lines of a student's scores of pictures at other heights, as `score --csv` gives them."""
    with open(path, encoding="utf-8", newline="") as text:
        found = [*csv.DictReader(text)]
    known = {os.path.splitext(name)[0]: picture for name, picture in rows.asked(world).items()}
    folder, lines = os.path.join(world, "heights"), []
    for row in found:
        height, _, name = os.path.relpath(row["path"], folder).partition(os.sep)
        if row["score"]:
            lines.append(known[os.path.splitext(name)[0]].line(float(row["score"]), height))
    return lines


def _table(args: argparse.Namespace) -> str:
    return table.write(args.rows, args.out)


_COMMANDS = {
    "pictures": (_pictures, ("scores", "photographs", "kind", "out")),
    "heights": (_heights, ("photographs", "world")),
    "one": (_one, ("scores", "teacher", "out")),
    "tower": (_tower, ("seed", "out")),
    "teachers": (_teachers, ("world", "scores", "out", "seed", "kind")),
    "ask": (_ask, ("student", "world", "corpus", "data", "out")),
    "row": (_row, ("world", "corpus", "evaluation", "clips", "heights", "out")),
    "table": (_table, ("rows", "out")),
}


def main() -> None:
    """One of the steps."""
    parser = argparse.ArgumentParser(prog="launch.ablation", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, (run, options) in _COMMANDS.items():
        sub = commands.add_parser(name)
        sub.set_defaults(run=run)
        for option in options:
            maybe = option in ("clips", "heights")
            kind = int if option == "seed" else str
            sub.add_argument(
                f"--{option}", type=kind, default="" if maybe else None, required=not maybe
            )
    args = parser.parse_args()
    print(args.run(args))


if __name__ == "__main__":
    main()
