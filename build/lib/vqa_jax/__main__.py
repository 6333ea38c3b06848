"""`python -m vqa_jax COMMAND`."""

import sys

from vqa_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m vqa_jax"))
