"""Find equations: `python main.py --help`."""

import sys

from llmsr.cli import main

if __name__ == "__main__":
    sys.exit(main())
