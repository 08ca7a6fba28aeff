"""`python -m llmsr VERB`, and the `llmsr` command."""

from llmsr.cli import program


def main() -> None:
    """The whole program; without a verb it lists them."""
    program(overview=True)


if __name__ == "__main__":
    main()
