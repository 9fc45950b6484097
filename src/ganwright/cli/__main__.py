"""`python -m ganwright.cli`."""

import sys

from ganwright.cli import main

if __name__ == "__main__":
    sys.exit(main())
