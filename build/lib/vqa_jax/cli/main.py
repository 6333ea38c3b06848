"""Command line: `vqa_jax COMMAND` or `python -m vqa_jax COMMAND`; `--help` lists the commands.

JAX and the models are imported by the command that needs them, so that help and mistakes are fast.
"""

from __future__ import annotations

from collections.abc import Sequence

from vqa_jax.cli import (
    anchors,
    benchmark,
    command,
    compare,
    exchange,
    ladder,
    loop,
    score,
    serve,
    teachers,
    train,
)


def main(argv: Sequence[str] | None = None, prog: str = "vqa_jax") -> int:
    """Runs one command.

    Args:
      argv: its arguments; None: those of the process.
      prog: how the program was called, for its usage.

    Returns:
      The exit status. Mistakes in the arguments raise SystemExit(2).
    """
    program, commands = command.parser(prog, "Video quality from ranked pairs.")
    groups = score, compare, ladder, serve, train, loop, anchors, teachers, benchmark, exchange
    for group in groups:
        group.add(commands)
    return command.run(program, argv)
