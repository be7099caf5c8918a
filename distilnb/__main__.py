"""`python -m distilnb`, and what `accelerate launch -m distilnb` starts."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
