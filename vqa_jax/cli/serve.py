"""The command `serve`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from vqa_jax.cli import command
from vqa_jax.serving.config import ServeConfig

TOKEN = "VQA_JAX_TOKEN"  # environment variable; an argument is seen by everyone on the machine


def add(commands: Any) -> None:
    """Adds the command to argparse's sub-commands."""
    default = ServeConfig()
    sub = command.add(
        commands,
        "serve",
        _serve,
        "Score and compare uploaded videos over HTTP, with a page for people.",
        kept="requests at work were finished; nothing is kept",
    )
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--anchors", metavar="FILE", help="table of other anchors: path, mos or score")
    sub.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every interface")
    sub.add_argument("--port", type=int, default=8000, help="where it listens (default: 8000)")
    text = f"file with a token that requests must bring; or the variable {TOKEN}"
    sub.add_argument("--token_file", metavar="FILE", help=text)
    text = "http(s) prefix that videos may be fetched from; may be repeated (default: none)"
    sub.add_argument("--allow_url", action="append", default=[], metavar="PREFIX", help=text)
    text = f"at work or waiting; more are told to come again (default: {default.requests})"
    sub.add_argument("--requests", type=int, default=default.requests, help=text)
    text = f"of a request's videos together (default: {default.upload_mb})"
    sub.add_argument("--upload_mb", type=int, default=default.upload_mb, help=text)
    text = f"until they have come (default: {default.upload_seconds:g})"
    sub.add_argument("--upload_seconds", type=float, default=default.upload_seconds, help=text)
    text = f"of a request's work, waiting not counted (default: {default.work_seconds:g})"
    sub.add_argument("--work_seconds", type=float, default=default.work_seconds, help=text)
    text = f"of a video that a curve covers (default: {default.timeline_seconds:g})"
    sub.add_argument("--timeline_seconds", type=float, default=default.timeline_seconds, help=text)
    command.add_devices(sub)
    command.add_limits(sub)
    sub.set_defaults(limit_seconds=default.limits.seconds)


def _serve(args: argparse.Namespace) -> command.Result:
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported: nobody watches bars here
    from vqa_jax import loading
    from vqa_jax.serving import server

    config = ServeConfig(
        command.limits_of(args),
        args.requests,
        args.upload_mb,
        args.upload_seconds,
        args.work_seconds,
        args.timeline_seconds,
        tuple(args.allow_url),
        _token(args.token_file),
    )
    student = loading.load(args.student, anchors=args.anchors, **command.devices_of(args))
    server.run(student, config, args.host, args.port)
    return 0


def _token(path: str | None) -> str:
    if path is None:
        return os.environ.get(TOKEN, "")
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
