"""The command line of jaxrank: `python launch.py search --help`."""

import sys

from jaxrank.cli import main

if __name__ == "__main__":
    sys.exit(main())
