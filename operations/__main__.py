"""`python -m operations VERB`."""

import sys

from operations.command import main

if __name__ == "__main__":
    sys.exit(main())
