"""Find equations: `python main.py --help`."""

from llmsr.cli import program

if __name__ == "__main__":
    program()
