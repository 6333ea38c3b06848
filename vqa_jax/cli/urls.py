"""Options that name URLs: the command works on local copies, and what it makes is put there.

See `jobs.places`. What a student's folder is, `loading.load` stages by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator
from typing import Any

from absl import logging

from vqa_jax.jobs import outputs, places
from vqa_jax.jobs.stores import PlaceError

_IN_PROCESS = ("FnApiRunner", "DirectRunner")  # Beam's runners whose workers see this machine


@contextlib.contextmanager
def placed(args: argparse.Namespace) -> Iterator[None]:
    """Puts local copies in the place of URLs while a command works, and publishes at its end.

    What a command that failed has made is published too: it is what a rerun goes on from.

    Raises:
      PlaceError: a URL cannot be read or written.
      MissingExtraError: the client of its store is not installed.
    """
    made = []
    for name, kind in args.parser.outputs.items():
        if _is_url(url := getattr(args, name)):
            _check_alone(args, url)
            made.append(places.output(url, kind == "folder"))
            setattr(args, name, made[-1].path)
    for name in args.parser.inputs:
        setattr(args, name, _staged(getattr(args, name)))
    if args.configured:
        stage_fields(args.config)
    try:
        yield
    except BaseException:
        for copy in made:
            try:
                copy.publish()
            except PlaceError as error:  # that which ended the command is the one to raise
                logging.error("%s", error)
        raise
    for copy in made:
        copy.publish()


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and not outputs.is_stream(value) and places.is_url(value)


def _staged(value: Any) -> Any:
    """The value of an option with local paths for URLs: a path, NAME=PATH, or a list of them."""
    if isinstance(value, list):
        return [_staged(one) for one in value]
    if not _is_url(value):
        return value
    name, equals, url = value.rpartition("=")
    return f"{name}{equals}{places.staged(url)}" if _is_url(url) else places.staged(value)


def stage_fields(config: Any) -> None:
    """Puts local copies in the place of the URLs that fields of a configuration name.

    Raises:
      PlaceError: one cannot be read.
    """
    for name, value in config.items():
        if hasattr(value, "items"):
            stage_fields(value)
        elif _is_url(value):
            config[name] = places.staged(value)


def _check_alone(args: argparse.Namespace, url: str) -> None:
    """Refuses an output at a URL for work that several processes share by its folder.

    Raises:
      PlaceError: it is shared.
    """
    given = vars(args)
    runner = re.search(r"--runner[= ](\w+)", " ".join(given.get("beam", ())))
    is_shared = (
        (given.get("processes") or 1) > 1
        or bool(given.get("coordinator") or (given.get("num_processes") or 1) > 1)
        or (runner is not None and runner[1] not in _IN_PROCESS)
    )
    if is_shared:
        raise PlaceError(
            f"{url}: processes that share work write to a folder that all of them see: give one"
            " that is mounted on every machine, and copy the result"
        )
