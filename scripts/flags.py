"""Writes docs/flags.md: every flag of every command, from the parsers that read them.

python scripts/flags.py > docs/flags.md
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmsr.cli import VERBS, command

HEAD = """# Flags

Made by `python scripts/flags.py > docs/flags.md` from what the commands read; a test keeps it so.
`python main.py --help` and `python -m llmsr VERB --help` print the same. A setting of `main.py` may also
stand in a YAML file given with `--config`; flags override it. A flag of type BOOL takes `true` or `false`,
and alone means `true`.
"""


def reference() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for verb, (module, about) in VERBS.items():
        if verb == "run":
            parts.append(_section("python main.py", "search for equations", module))
        elif verb == "train":
            parts.append(_section("python main.py --use_rl", "train the model by GRPO", module))
        else:
            parts.append(_section(f"python -m llmsr {verb}", about, module))
    return "\n".join(parts)


def _section(words: str, about: str, place: str) -> str:
    parser = command(place).parser()
    lines = [f"## `{words}`", "", f"{about[0].upper()}{about[1:]}.", ""]
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS and a.dest != "help"]
        if not actions:
            continue
        named = group.title not in ("options", "positional arguments")
        lines += [f"**{group.title}**", ""] if named else []
        lines += ["| flag | meaning |", "|---|---|"]
        lines += [f"| {_name(action)} | {_cell(action.help % vars(action))} |" for action in actions]
        lines.append("")
    return "\n".join(lines)


def _name(action: argparse.Action) -> str:
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.metavar
    if not action.option_strings:
        return f"`{value}`"
    flag = action.option_strings[-1]
    takes_none = action.nargs == 0
    return f"`{flag}`" if takes_none or not value else f"`{flag} {_cell(str(value))}`"


def _cell(text: str) -> str:
    """The text in one cell of a table; what looks like markup is shown as it is."""
    return re.sub(r"([|<>])", r"\\\1", text)


if __name__ == "__main__":
    print(reference(), end="")
