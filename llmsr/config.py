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
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from llmsr.errors import UserError

Settings = TypeVar("Settings")


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose complaint is a `UserError` of one sentence with the flag that may be meant.

    `elsewhere` tells of flags that another command has where they belong.
    """

    elsewhere: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
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


def option(default: Any, help: str, *, choices: Iterable[Any] | None = None) -> Any:
    """A dataclass field with a default, a help text with its unit, and the values that it may take."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices) if choices else None})


def parse_bool(text: str) -> bool:
    """The truth value of `true`, `yes`, `1`, `on` and their opposites, in any case."""
    lowered = str(text).strip().lower()
    if lowered in ("true", "yes", "1", "on"):
        return True
    if lowered in ("false", "no", "0", "off"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def check_positive(name: str, value: float) -> None:
    """`UserError` unless the value is a finite number above 0; neither nan nor inf is."""
    if not 0 < value < math.inf:
        raise UserError(f"{name} must be a positive number, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """`UserError` unless the value is a finite number of at least 0; neither nan nor inf is."""
    if not 0 <= value < math.inf:
        raise UserError(f"{name} must be a finite number of at least 0, got {value}")


def _value_type(hint: Any) -> type:
    """The plain type of an annotation: `int | None` is int."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return hint if hint in (int, float, bool, str) else str


def add_options(parser: argparse.ArgumentParser, *classes: type) -> None:
    """Add one flag per field; flags that are not given stay out of the parsed namespace."""
    for cls in classes:
        hints = typing.get_type_hints(cls)
        group = parser.add_argument_group((cls.__doc__ or cls.__name__).splitlines()[0].rstrip("."))
        for item in fields(cls):
            kind = _value_type(hints[item.name])
            default = "" if item.default in (None, MISSING) else f" (default: {item.default})"
            keywords: dict[str, Any] = {
                "dest": item.name,
                "default": argparse.SUPPRESS,
                "help": (item.metadata.get("help", "") + default).replace("%", "%%"),
                "metavar": kind.__name__.upper(),
            }
            if kind is bool:
                keywords |= {"type": parse_bool, "nargs": "?", "const": True}
            else:
                keywords |= {"type": kind}
            if item.metadata.get("choices"):
                keywords["metavar"] = "{" + ",".join(map(str, item.metadata["choices"])) + "}"
            group.add_argument(f"--{item.name}", **keywords)


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


def _convert(cls: type, name: str, hint: Any, value: Any, choices: tuple | None, source: str) -> Any:
    kind = _value_type(hint)
    if value is None:
        if type(None) not in typing.get_args(hint):
            raise UserError(f"{source}{name} has no value; give it one or leave it out")
        return None
    try:
        if kind is bool:
            value = value if isinstance(value, bool) else parse_bool(str(value))
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
    known = {item.name for cls in classes for item in fields(cls)}
    for source, layer in layers:
        for key in layer:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise UserError(f"{source}unknown setting {key!r}{hint}")
    instances = []
    for cls in classes:
        hints = typing.get_type_hints(cls)
        values = {}
        for item in fields(cls):
            for source, layer in layers:
                if item.name in layer:
                    values[item.name] = _convert(
                        cls,
                        item.name,
                        hints[item.name],
                        layer[item.name],
                        item.metadata.get("choices"),
                        source,
                    )
        instances.append(cls(**values))
    return instances


def as_mapping(*settings: Any) -> dict[str, Any]:
    """All fields of all settings as one flat mapping, ready for YAML or JSON."""
    return {key: value for item in settings for key, value in asdict(item).items()}
