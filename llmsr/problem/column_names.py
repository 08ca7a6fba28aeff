"""Identifiers for the columns of a table: what a spec and a prompt can name."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 40
RESERVED = frozenset(
    {
        *keyword.kwlist,
        *("np", "minimize", "params", "evaluate", "equation", "data", "inputs", "outputs", "loss"),
        *("predicted", "result", "error", "MAX_NPARAMS", "PRAMS_INIT"),
        *("abs", "float", "int", "len", "max", "min", "pow", "range", "round", "sum"),
    }
)
"""Names that mean something else in a spec or in the body of an equation."""


def identifiers(names: Sequence[object]) -> tuple[str, ...]:
    """One identifier per name, all different: the name itself where it is a plain ASCII identifier.

    Others keep what letters and digits they have: `Temp (K)` becomes Temp_K, `2nd` c_2nd, Greek letters their
    Latin names, what has none of these column1, column2, ... by position. A reserved name gets a `_`
    behind it, an equal one `_2`.
    """
    texts = [str(name).strip() for name in names]
    plain = {text for text in texts if _is_plain(text)}
    made: list[str] = []
    for position, text in enumerate(texts, start=1):
        if _is_plain(text) and text not in made:
            made.append(text)
            continue
        root = name = _readable(text) or f"column{position}"
        count = 2
        while name in made or name in plain:
            name, count = f"{root}_{count}", count + 1
        made.append(name)
    return tuple(made)


def without_unit(label: str) -> tuple[str, str]:
    """A label without the unit in brackets behind it, and the unit; empty where it has none."""
    found = re.fullmatch(r"(.*\S)\s*(?:\[([^\[\]]+)\]|\(([^()]+)\))", label)
    return (found[1], (found[2] or found[3]).strip()) if found else (label, "")


def position_of(name: str, labels: Sequence[str]) -> int | None:
    """Where the column stands that a spec made from these labels, or some of them, calls `name`.

    None where no label or more than one gives this name. A label that gives a name by its position alone
    gives none here: the spec may be of other columns.
    """
    if name in labels:
        return labels.index(name)
    found = [i for i, label in enumerate(labels) if name in _possible_names(label)]
    return found[0] if len(found) == 1 else None


def _possible_names(label: str) -> set[str]:
    texts = {label, without_unit(label)[0]}
    return {identifiers([text])[0] for text in texts if _is_plain(text) or _readable(text)}


def doubles(names: Iterable[object]) -> list[str]:
    """The names that occur more than once, in order of appearance."""
    texts = [str(name) for name in names]
    return list(dict.fromkeys(text for text in texts if texts.count(text) > 1))


def _is_plain(text: str) -> bool:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", text)
    return bool(plain) and text not in RESERVED and len(text) <= LONGEST and not text.startswith("__")


def _readable(text: str) -> str:
    """The letters and digits of a text as an identifier that is not reserved; empty where it has none."""
    spelled = "".join(_latin(letter) for letter in unicodedata.normalize("NFKD", text))
    name = re.sub(r"[^A-Za-z0-9]+", "_", spelled)[:LONGEST].strip("_")
    if name[:1].isdigit():
        name = f"c_{name}"
    return f"{name}_" if name in RESERVED else name


def _latin(letter: str) -> str:
    """A Greek letter by its name, the combining marks of a letter with accents as nothing."""
    if letter.isascii():
        return letter
    if unicodedata.combining(letter):
        return ""
    greek = re.match(r"GREEK (SMALL|CAPITAL) LETTER (\w+)$", unicodedata.name(letter, ""))
    if not greek:
        return " "
    spelled = {"LAMDA": "LAMBDA"}.get(greek[2], greek[2])
    return spelled.lower() if greek[1] == "SMALL" else spelled.capitalize()


def with_labels(text: str, names: Sequence[str], labels: Sequence[str]) -> str:
    """The text of an equation with every identifier that differs from its label replaced by the label.

    A label that is no identifier stands between backticks, as in pandas' `eval`.
    """
    shown = {
        name: label if label.isidentifier() else f"`{label}`"
        for name, label in zip(names, labels, strict=True)
        if name != label
    }
    if not shown:
        return text
    pattern = "|".join(sorted(map(re.escape, shown), key=len, reverse=True))
    return re.sub(rf"\b({pattern})\b(?!\()", lambda found: shown[found[1]], text)
