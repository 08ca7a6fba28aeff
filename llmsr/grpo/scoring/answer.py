"""An answer that is to be scored, and what its prompt said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The text of one answer with the `extra_info` of its row; what is read there may raise a ValueError."""

    text: str
    problem: str
    info: Mapping[str, Any]
    tokens: int

    @property
    def training(self) -> bool:
        return self.info.get("split") != "validation"

    @property
    def prompt(self) -> int:
        return int(self.info.get("index") or 0)

    @property
    def island(self) -> int | None:
        island = self.info.get("island")
        return None if island is None or island < 0 else int(island)

    @property
    def versions(self) -> dict[str, str]:
        """The bodies of the prompt's earlier versions by their names."""
        return json.loads(self.info.get("versions") or "{}")

    @property
    def shown(self) -> list[str]:
        """The canonical forms of the prompt's earlier versions."""
        return json.loads(self.info.get("shown") or "[]")

    @property
    def parents(self) -> tuple[int, ...]:
        """The numbers of the samples that the prompt showed."""
        return tuple(json.loads(self.info.get("parents") or "[]"))
