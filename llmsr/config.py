"""Settings as frozen dataclasses: a field's default is the recommended value, its help is the flag's help.

A YAML file, then flags, override the defaults; an unknown key is an error. One mechanism for every mode:

    @dataclass(frozen=True)
    class Settings:
        budget: int = option(1000, "completions to ask for")

    parser = Parser(); add_options(parser, Settings)
    settings = resolve(Settings, given=vars(parser.parse_args()), path="run.yaml")
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from llmsr.errors import UserError

Settings = TypeVar("Settings")
MAX_WORKERS = 1024


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose complaint is a `UserError` of one sentence with the flag that may be meant.

    `elsewhere` tells of flags that another command has where they belong.
    """

    elsewhere: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        # argparse's own complaint prints the whole usage and names no flag that may be meant
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown is None:
            raise UserError(f"{message} ({self.prog} --help tells more)")
        flag = unknown.group(1)
        near = difflib.get_close_matches(flag, self._option_string_actions, 1)
        hint = self.elsewhere.get(flag) or (
            f"did you mean {near[0]}?" if near else f"{self.prog} --help lists them"
        )
        raise UserError(f"unknown flag {flag}; {hint}")


def flags_of(*classes: type) -> set[str]:
    """The flags that `add_options` makes of these classes."""
    return {f"--{item.name}" for cls in classes for item in fields(cls)}


def option(default: Any, help: str, *, choices: Iterable[Any] = (), **more: Any) -> Any:
    """A dataclass field with a default, a help text with its unit, and the values that it may take.

    `above`, `least` and `most` are the bounds of a number, see `Checked`. MISSING as default makes a flag
    that must be given; `metavar` stands for its value, a `switch` takes none, `many` takes several, and
    what is `positional` is no flag but an argument in its place.
    """
    return field(default=default, metadata={"help": help, "choices": tuple(choices), **more})


@dataclass(frozen=True)
class Checked:
    """Settings that are a `UserError` where a number is out of its field's bounds; None is in all."""

    flag = "--"  # what stands before a setting's name where users write it

    def __post_init__(self) -> None:
        for item in fields(self):
            fault = _out_of_bounds(getattr(self, item.name), item.metadata)
            if fault:
                raise UserError(f"{self.flag}{item.name} {fault}, got {getattr(self, item.name)}")


def _out_of_bounds(value: Any, bounds: Mapping[str, Any]) -> str:
    """What a number must be and is not; empty where it is in bounds."""
    above, least, most = (bounds.get(name) for name in ("above", "least", "most"))
    if value is None or (above is None and least is None):
        return ""
    inside = value > above if least is None else value >= least
    if inside and value <= (math.inf if most is None else most) and value != math.inf:
        return ""
    if most is not None:
        return f"must be {f'above {above}' if least is None else f'at least {least}'} and at most {most}"
    if least is None:
        return "must be a positive number" if above == 0 else f"must be above {above}"
    return f"must be at least {least}" if least else "must be a finite number of at least 0"


def parse_bool(text: str) -> bool:
    """The truth value of `true`, `yes`, `1`, `on` and their opposites, in any case."""
    lowered = str(text).strip().lower()
    if lowered in ("true", "yes", "1", "on"):
        return True
    if lowered in ("false", "no", "0", "off"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def parse_workers(text: int | str) -> int | str:
    """The number of processes that `--workers` asks for (0: one per core), or "ray"; else a UserError."""
    told = str(text).strip().lower()
    if told == "ray":
        return told
    if not (told.isascii() and told.isdigit() and int(told) <= MAX_WORKERS):
        raise UserError(
            f"--workers must be a number from 0 (one per core) to {MAX_WORKERS}, or ray; got {text!r}"
        )
    return int(told)


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma list that are not empty."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def names_or_none(setting: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known names in a comma list, each once; none for `none`, which stands alone, and for no text."""
    names = tuple(dict.fromkeys(listed(text)))
    if "none" in names and len(names) > 1:
        raise UserError(f"--{setting} none stands alone; leave it out to name others")
    check_names(setting, names, ("none", *known))
    return () if names == ("none",) else names


def check_names(setting: str, names: Iterable[str], known: Sequence[str]) -> None:
    """`UserError` for a name that is not known, with the nearest one that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            # a list of dozens of names helps less than the one that was meant
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"--{setting} knows {', '.join(known)}; not {name!r}{hint}")


def _value_type(hint: Any) -> type:
    """The plain type of an annotation: `int | None` is int."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return hint if hint in (int, float, bool, str) else str


def add_options(parser: argparse.ArgumentParser, *classes: type) -> None:
    """Add one flag or argument per field; those that are not given stay out of the parsed namespace."""
    for cls in classes:
        hints = typing.get_type_hints(cls)
        group = parser.add_argument_group((cls.__doc__ or cls.__name__).splitlines()[0].rstrip("."))
        for item in fields(cls):
            told, kind = item.metadata, _value_type(hints[item.name])
            bare = item.default in (None, MISSING, "") or told.get("many") or told.get("switch")
            # a flag that is not given must not hide what the YAML file says
            keywords: dict[str, Any] = {
                "default": argparse.SUPPRESS,
                "help": (told["help"] + ("" if bare else f" (default: {item.default})")).replace("%", "%%"),
            }
            if told.get("switch"):
                group.add_argument(f"--{item.name}", action="store_true", **keywords)
                continue
            choices = told.get("choices")
            named = "{" + ",".join(map(str, choices)) + "}" if choices else kind.__name__.upper()
            keywords |= {"metavar": told.get("metavar") or named, "type": kind}
            if kind is bool:
                # argparse's `type=bool` takes any text for true, False too
                keywords |= {"type": parse_bool, "nargs": "?", "const": True}
            needed, many = item.default is MISSING, told.get("many")
            if many:
                keywords["nargs"] = "+"
            if not told.get("positional"):
                group.add_argument(f"--{item.name}", required=needed, **keywords)
                continue
            if not needed:
                keywords["nargs"] = "*" if many else "?"
            group.add_argument(item.name, **keywords)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The top-level mapping of a YAML file."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines, found {type(content).__name__}")
    return content


def _converted(item: Field[Any], hint: Any, value: Any, source: str) -> Any:
    """The value of a field, of the type that its annotation is and among its choices."""
    name, kind, choices = item.name, _value_type(hint), item.metadata.get("choices")
    if isinstance(value, list):
        return tuple(value)
    if value is None:
        if type(None) not in typing.get_args(hint):
            raise UserError(f"{source}{name} has no value; give it one or leave it out")
        return None
    try:
        if kind is bool:
            value = value if isinstance(value, bool) else parse_bool(str(value))
        # YAML reads 1e3 as a text and 1000.0 as a float: both mean a whole number
        elif kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        else:
            value = kind(value)
    except (TypeError, ValueError, OverflowError, argparse.ArgumentTypeError):
        raise UserError(f"{source}{name} must be of type {kind.__name__}, got {value!r}") from None
    if choices and value not in choices:
        raise UserError(f"{source}{name} must be one of {', '.join(map(str, choices))}; got {value!r}")
    return value


def resolve(*classes: type, given: Mapping[str, Any], path: str | Path | None = None) -> list[Any]:
    """One instance per class: defaults, then the YAML file, then `given`.

    A key that none of the classes knows is a `UserError` naming the nearest one. Bounds and combinations
    are checked by each class's own `__post_init__`.
    """
    layers = [("", dict(given))]
    if path is not None:
        layers.insert(0, (f"{path}: ", read_yaml(path)))
    # a misspelt key that is passed over would let a run go on with a default
    known = {item.name for cls in classes for item in fields(cls)}
    for source, layer in layers:
        for key in layer:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise UserError(f"{source}unknown setting {key!r}{hint}")
    # each class is made once all layers are known, so that bounds hold between its fields
    instances = []
    for cls in classes:
        hints = typing.get_type_hints(cls)
        values = {}
        for item in fields(cls):
            for source, layer in layers:
                if item.name in layer:
                    values[item.name] = _converted(item, hints[item.name], layer[item.name], source)
        instances.append(cls(**values))
    return instances


def as_mapping(*settings: Any) -> dict[str, Any]:
    """All fields of all settings as one flat mapping, ready for YAML or JSON."""
    return {key: value for item in settings for key, value in asdict(item).items()}
