"""Training where a card is at hand for minutes: a corpus packed here, a student trained there.

python -m launch.gpu_train pack --config NAME --data CORPUS --out FILE.npz
python -m launch.gpu_train train --packed FILE.npz --out DIR [--seconds 330] [--steps N] [--seed N]

`launch/gpu_train.sh` says the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from absl import logging

from vqa_jax.errors import VqaError

# A checkout must do without them where a card is lent and no video tools are installed.
NOT_NEEDED = (
    *("apache_beam", "array_record", "av", "cv2", "grain", "ml_collections", "PIL", "pyarrow"),
    "tensorflow_datasets",
)


def _pack(args: argparse.Namespace, changes: list[str]) -> str:
    from launch.gpu_train import pack
    from vqa_jax.cli import config, train
    from vqa_jax.motion import extractor

    told = config.read(args.config, changes)
    settings, spec = train.run_of(told, extractor.load_extractor(told.extractor).fingerprint)
    return f"{args.out}: {pack.pack(args.data, settings, spec, args.out)}"


def _train(args: argparse.Namespace) -> str:
    from launch.gpu_train import run
    from launch.gpu_train.packed import Packed

    packed = Packed.read(args.packed)
    config = packed.config
    optim, given = config.optim, config.input
    if args.steps:
        warmup = min(optim.warmup_steps, args.steps)
        optim = dataclasses.replace(optim, total_steps=args.steps, warmup_steps=warmup)
    seed = config.seed if args.seed is None else args.seed
    given = dataclasses.replace(given, seed=given.seed if args.seed is None else args.seed)
    config = dataclasses.replace(config, optim=optim, input=given, seed=seed)
    row = run.train(dataclasses.replace(packed, config=config), args.out, args.seconds)
    if extra := sorted(set(NOT_NEEDED) & set(sys.modules)):
        logging.info("imported, but not needed: %s", ", ".join(extra))
    return f"{args.out}/student: step {row['step']}, loss {row['train/loss']:.4f}"


def main() -> int:
    """One of the two commands."""
    parser = argparse.ArgumentParser(prog="launch.gpu_train", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("pack", help="--config.FIELD=VALUE changes the configuration")
    for name in ("config", "data", "out"):
        sub.add_argument(f"--{name}", required=True)
    sub.set_defaults(run=_pack)
    sub = commands.add_parser("train")
    sub.add_argument("--packed", required=True)
    sub.add_argument("--out", required=True)
    sub.add_argument("--seconds", type=float, default=330.0)
    sub.add_argument("--steps", type=int)
    sub.add_argument("--seed", type=int)
    sub.set_defaults(run=_train)
    changes = [word for word in sys.argv[1:] if word.startswith("--config.")]
    args = parser.parse_args([word for word in sys.argv[1:] if word not in changes])
    logging.set_verbosity("info")
    try:
        print(args.run(args, changes) if args.run is _pack else args.run(args))
    except VqaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
