"""`python -m llmsr` and the `llmsr` command."""

from llmsr.cli import program as main

if __name__ == "__main__":
    main()
