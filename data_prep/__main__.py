"""`python -m data_prep COMMAND ...`: runs the module of a command, with the arguments after it."""

import runpy
import sys

COMMANDS = {
    "scenes": ("scenes.scenes", "make videos to learn from"),
    "metrics": ("selection.low_level_metrics", "nine low-level metrics of every input"),
    "select": ("selection.select", "choose inputs by their metrics' histograms"),
    "build": ("prepare.job", "prepare a corpus from a listing of videos"),
    "pairs": ("labels.pairs", "label the first iteration's pairs"),
    "human-listing": ("labels.human_listing", "videos with human scores, split by content"),
    "human-pairs": ("labels.human_pairs", "label pairs by human scores"),
    "verify": ("verify.verify", "read and check a whole corpus"),
}


def main() -> None:
    """Command line."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        lines = [f"  {command:13} {text}" for command, (_, text) in COMMANDS.items()]
        sys.exit("usage: python -m data_prep COMMAND [--help] ...\n" + "\n".join(lines))
    module = f"data_prep.{COMMANDS[name][0]}"
    sys.argv = [f"data_prep {name}", *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
