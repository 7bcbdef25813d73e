"""`python -m jaxrank`: the command line."""

import sys

from jaxrank.cli import main

if __name__ == "__main__":
    sys.exit(main())
