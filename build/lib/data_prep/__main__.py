"""`python -m data_prep COMMAND`."""

import sys

from data_prep.commands import main

if __name__ == "__main__":
    sys.exit(main())
