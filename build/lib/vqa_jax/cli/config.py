"""The option --config: a configuration by name or file, and changes of its fields."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from vqa_jax.errors import VqaError

PREFIX = "--config."
HELP = "name, NAME:DETAIL or file; change a field by --config.a.b=value"


class ConfigError(VqaError):
    """No such configuration or field, or a value that it cannot take; one line, for the usage."""


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(other arguments, changes): takes `--config.a.b=value` and `--config.a.b value` out of them.

    What follows "--" stays as it is.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    others: list[str] = []
    changes: list[str] = []
    place = 0
    while place < end:
        token = argv[place]
        place += 1
        if not token.startswith(PREFIX):
            others.append(token)
            continue
        if "=" not in token and place < end and not argv[place].startswith("--"):
            token = f"{token}={argv[place]}"
            place += 1
        changes.append(token)
    return [*others, *argv[end:]], changes


def read(name: str, changes: Sequence[str] = ()) -> Any:
    """The ml_collections config of a name or file, with fields changed.

    Args:
      name: "quickstart", "quickstart:2" or "some/file.py:2"; what follows the colon goes to the
        file's `get_config`.
      changes: as `split` finds them.

    Raises:
      ConfigError: see there.
    """
    from ml_collections import config_flags

    argv = ["vqa_jax", f"--config={_file_of(name)}", *changes]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_file(
            "config", None, "Run configuration.", flag_values=values, sys_argv=argv
        )
        values(argv)
        values.config.keys()  # a file that could not be loaded says so here, not somewhere later
    except (flags.Error, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"--config: {_reason(error)}") from error
    return values.config


def _reason(error: Exception) -> str:
    """One line of what ml_collections says."""
    text = str(error)
    unknown = re.search('Did you mean "(.*?)" instead of "(.*?)"', text)
    if unknown:
        return f"no field {unknown[2]!r}; did you mean {unknown[1]}?"
    if isinstance(error, AttributeError | LookupError):
        name = text.strip("\"'")
        return f"no field {name!r}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any("Traceback" in line for line in lines):  # of the file's code: its last line tells
        lines = [lines[0], lines[-1]]
    return " ".join(lines)


def _file_of(name: str) -> str:
    """The file of a configuration, with the detail after its colon."""
    folder = _folder()  # in any case: a file of one's own may change one of these
    name, colon, detail = name.partition(":")
    path = name
    if not name.endswith(".py") and not os.path.dirname(name):
        names = sorted(p.stem for p in folder.glob("[a-z]*.py"))
        if name not in names:
            hint = nearest(name, names) or f"; there are {', '.join(names)}"
            raise ConfigError(f"--config: no configuration {name!r}{hint}")
        path = str(folder / f"{name}.py")
    elif not os.path.isfile(name):
        raise ConfigError(f"--config: {name} is missing: name a configuration or its file")
    return f"{path}{colon}{detail}"


def _folder() -> pathlib.Path:
    """Folder of the configurations: beside the package in a checkout, within it once installed."""
    if importlib.util.find_spec("vqa_jax.configs") is None:
        return pathlib.Path(__file__).resolve().parents[2] / "configs"
    installed = importlib.import_module("vqa_jax.configs")
    sys.modules.setdefault("configs", installed)  # as its files call each other in a checkout
    return pathlib.Path(installed.__path__[0])


def nearest(name: str, known: Sequence[str]) -> str:
    """What to add to a message on a name: "; did you mean X?", or nothing if none is near."""
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""
