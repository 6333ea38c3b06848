"""What all commands share: their parser, the check of their outputs, errors of one line.

Nothing here imports JAX or a model, so that help and mistakes are fast.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging

from vqa_jax import extras, terminal
from vqa_jax.cli import config, urls
from vqa_jax.errors import VqaError
from vqa_jax.jobs import outputs, places
from vqa_jax.settings import (
    ATTENTION_KINDS,
    KEPT_DTYPES,
    SCORING_DTYPES,
    DecodeLimits,
    SettingsError,
)

LEFT = "this process has done its part; the rest is left to other processes"
RESUMES = "what is finished is kept; the same command goes on from there"
INTERRUPTED = 130  # exit status after Ctrl-C
_CLOSED = 141  # exit status, as a shell's tools have it, where nobody reads the output any more

# (text for the person, exit status), or the status alone where the command has said its text
Result = int | tuple[str, int]
Handler = Callable[[argparse.Namespace], Result]


@contextlib.contextmanager
def told_as_settings(prefix: str = "") -> Iterator[None]:
    """Turns a ValueError or TypeError about given settings into a SettingsError."""
    try:
        yield
    except VqaError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{prefix}{error}") from error


class Parser(argparse.ArgumentParser):
    """Parser that offers the nearest name for an unknown one; `-` and `_` are the same in names.

    Attributes:
      inputs: options that name what is read, a local path or a URL.
      outputs: kind of each option that names an output.
      takes_beam: what follows "--" is Beam's; it becomes `beam` of the arguments.
      extra: of the installation that the commands belong to; "": it depends.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.inputs: list[str] = []
        self.outputs: dict[str, outputs.Kind] = {}
        self.takes_beam = False
        self.extra = ""
        self._commands: Any = None

    def add_subparsers(self, **kwargs: Any) -> Any:
        """As argparse does."""
        self._commands = super().add_subparsers(**kwargs)
        return self._commands

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, after names are put right."""
        given = list(sys.argv[1:] if args is None else args)
        beam: list[str] = []
        if self.takes_beam and "--" in given:
            place = given.index("--")
            given, beam = given[:place], given[place + 1 :]
        for place, token in enumerate(given):
            if token == "--":
                break
            if token.startswith("--"):
                given[place] = self._option(token)
            elif self._commands is not None and not token.startswith("-"):
                given[place] = self._command(token)
                break
        found, rest = super().parse_known_args(given, namespace)
        if self.takes_beam:
            found.beam = beam
        return found, rest

    def _option(self, token: str) -> str:
        name, equals, value = token.partition("=")
        known = sorted(set(re.findall(r"--\w+", self.format_help())))
        right = "--" + name[2:].replace("-", "_")
        if right not in known:
            beam = "; options of Beam come after --" if self.takes_beam else ""
            self.error(f"unknown option {name}{config.nearest(right, known)}{beam}")
        return right + equals + value

    def _command(self, token: str) -> str:
        known = list(self._commands.choices)
        for name in (token, token.replace("-", "_"), token.replace("_", "-")):
            if name in known:
                return name
        hint = config.nearest(token, known) or f": one of {', '.join(known)}"
        self.error(f"unknown command {token!r}{hint}")


def parser(prog: str, description: str, extra: str = "") -> tuple[Parser, Any]:
    """The parser of a program and argparse's sub-commands, for `add`.

    Args:
      prog: how the program is called.
      description: what it does.
      extra: of the installation, see `extras.asked_for`.
    """
    from vqa_jax import __version__

    found = Parser(prog=prog, description=description)
    found.extra = extra
    found.add_argument("--version", action="version", version=f"vqa_jax {__version__}")
    found.add_argument("--quiet", action="store_true", help="only warnings, errors and the result")
    return found, found.add_subparsers(dest="command", required=True, metavar="COMMAND")


def add(
    commands: Any,
    name: str,
    handler: Handler,
    text: str,
    *,
    kept: str = "nothing is kept; the same command starts again",
    takes_config: bool = False,
    takes_beam: bool = False,
) -> Parser:
    """Adds a command.

    Args:
      commands: of `parser`, or of a command's own `add_subparsers`.
      name: of the command.
      handler: does the work; gets the parsed arguments.
      text: what it does, one sentence.
      kept: after Ctrl-C: what is kept, and how to go on; {option} is the option's value.
      takes_config: it has the option --config.
      takes_beam: what follows "--" goes to Beam.
    """
    usage = "%(prog)s [OPTION ...] [-- BEAM_OPTION ...]" if takes_beam else None
    command: Parser = commands.add_parser(name, help=text, description=text, usage=usage)
    command.takes_beam = takes_beam
    command.set_defaults(handler=handler, parser=command, kept=kept, configured=takes_config)
    quiet = {"action": "store_true", "default": argparse.SUPPRESS}
    command.add_argument("--quiet", help="only warnings, errors and the result", **quiet)
    if takes_config:
        command.add_argument("--config", required=True, metavar="NAME", help=config.HELP)
    return command


def add_input(command: Parser, option: str, text: str, group: Any = None, **more: Any) -> None:
    """Adds an option that names what is read; of a URL the command gets a local copy.

    Args:
      command: that takes the option.
      option: its name.
      text: help.
      group: of the command's options, of which it is one.
      more: as argparse takes it.
    """
    made = (group or command).add_argument(option, help=text, **more)
    command.inputs.append(made.dest)


def add_output(command: Parser, option: str, kind: outputs.Kind, text: str, **more: Any) -> None:
    """Adds an option that names an output; it is checked before the command's work."""
    command.add_argument(option, help=text, **more)
    command.outputs[option.lstrip("-")] = kind


def add_shares(command: Parser) -> None:
    """Adds the options of work that several processes share."""
    command.add_argument("--processes", type=int, default=1, help="how many share the work")
    command.add_argument("--process", type=int, default=0, help="number of this one, from 0")


def add_limits(command: Parser) -> None:
    """Adds the options of what one file may use while it is decoded; 0 is no limit."""
    command.add_argument(
        "--limit_seconds", type=float, default=DecodeLimits.seconds, help="of one file, at most"
    )
    command.add_argument(
        "--limit_memory_mb", type=int, default=DecodeLimits.memory_mb, help="of its decoder"
    )
    command.add_argument(
        "--limit_pixels", type=int, default=DecodeLimits.pixels, help="of a frame; 8K fits"
    )


def add_devices(command: Parser) -> None:
    """Adds the options of where and how a student computes; `devices_of` reads them."""
    text = "devices that share data,fsdp,tensor, as 4,2,1 (-1: the rest); default: all local ones"
    command.add_argument("--mesh", metavar="D,F,T", help=text)
    command.add_argument(
        "--attention", choices=ATTENTION_KINDS, default="auto", help="kernel (default: platform's)"
    )
    command.add_argument(
        "--dtype",
        choices=SCORING_DTYPES,
        help="of weights and arithmetic (default: the student's); int8 for its layers",
    )
    text = "of the anchors' keys and values (default: the arithmetic's)"
    command.add_argument("--cache_dtype", choices=KEPT_DTYPES, help=text)
    text = "groups of frames, or pairs, in one call of all devices (default: 32)"
    command.add_argument("--batch_size", type=int, help=text)


def devices_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_devices` was given, as `vqa_jax.load` takes it.

    Raises:
      SettingsError: a mesh that is not three numbers.
    """
    mesh = args.mesh and args.mesh.split(",")
    if mesh and not (len(mesh) == 3 and all(re.fullmatch(r"-?\d+", size) for size in mesh)):
        raise SettingsError(f"--mesh {args.mesh}: give three numbers, as 4,2,1")
    return {
        "mesh": mesh and tuple(map(int, mesh)),
        "attention": args.attention,
        "dtype": args.dtype,
        "batch_size": args.batch_size,
        "cache_dtype": args.cache_dtype,
    }


def limits_of(args: argparse.Namespace) -> DecodeLimits:
    """What `add_limits` was given.

    Raises:
      SettingsError: a limit below 0.
    """
    names = "--limit_seconds", "--limit_memory_mb"
    return DecodeLimits(args.limit_seconds, args.limit_memory_mb, args.limit_pixels, names)


def say(args: argparse.Namespace, text: str) -> None:
    """Prints the text for the person: to standard error where standard output takes a table."""
    taken = any(outputs.is_stdout(getattr(args, name)) for name in args.parser.outputs)
    file = sys.stderr if taken else sys.stdout
    _write(file, terminal.text(places.named(text)))


def run(program: Parser, argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Known errors are one line, not a traceback."""
    rest, changes = config.split(sys.argv[1:] if argv is None else list(argv))
    args = program.parse_args(rest)
    extra = program.extra or args.command  # `train` and `plan` have one of their name
    if args.configured:
        try:
            with extras.asked_for(extra):
                args.config = config.read(args.config, changes)
        except config.ConfigError as error:
            args.parser.error(str(error))
        except extras.MissingExtraError as error:
            return _complain(str(error))
    elif changes:
        args.parser.error(f"{args.command} takes no --config")
    _be_quiet(args.quiet)
    try:
        with urls.placed(args):
            for name, kind in args.parser.outputs.items():
                if path := getattr(args, name):
                    outputs.check_output(path, kind)
            with extras.asked_for(extra):
                result = args.handler(args)
        if isinstance(result, int):
            return result
        text, status = result
        say(args, text)
        return status
    except KeyboardInterrupt:
        kept = places.named(args.kept.format_map(vars(args)))
        sys.stderr.write(f"\ninterrupted: {kept}\n")
        return INTERRUPTED
    except BrokenPipeError as error:
        return _CLOSED if _left_by_reader() else _complain(outputs.describe(error))
    except VqaError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(outputs.describe(error))
    except Exception as error:  # a full disk in the words of a library that writes by itself
        given = [getattr(args, name) for name in args.parser.outputs]
        system = outputs.of_the_system(error, next(filter(None, given), ""))
        if system is None:
            raise
        return _complain(outputs.describe(system))


def _be_quiet(quiet: bool) -> None:
    logging.set_verbosity("warning" if quiet else os.environ.get("VQA_JAX_LOG", "info"))
    # Orbax tells every step of a save at the level of our own messages, and every error with a
    # traceback before it raises it.
    logging.get_absl_logger().addFilter(
        lambda record: record.levelname == "WARNING" or "orbax" not in record.pathname
    )
    logging.get_absl_logger().addFilter(clean)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported, also by child processes


def _unraisable(told: Any) -> None:
    """Leaves out what Orbax's writers say after the one whose error ended their save."""
    if not (told.exc_type is RuntimeError and str(told.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(told)


def clean(record: Any) -> bool:
    """Makes a log record's message fit for a terminal; a filter that lets every one pass."""
    record.msg, record.args = terminal.message(places.named(record.getMessage())), ()
    return True


def _complain(message: str) -> int:
    _write(sys.stderr, f"error: {terminal.message(places.named(message))}")
    return 1


def _write(file: Any, text: str) -> None:
    encoding = file.encoding or "utf-8"  # of a terminal that may know few letters
    file.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    file.flush()


def _left_by_reader() -> bool:
    """Whether nobody reads standard output any more, as after "| head".

    If so it leads nowhere from now on: else Python's exit would complain of what is left to write.
    """
    with contextlib.suppress(OSError, ValueError):
        ask = select.poll()
        ask.register(sys.stdout.fileno(), 0)
        if any(event & select.POLLERR for _, event in ask.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return True
    return False
