"""`python -m llmsr` and the `llmsr` command."""

import sys

from llmsr.cli import main

if __name__ == "__main__":
    sys.exit(main())
