"""Other programs that find equations, run and measured beside ours; see `requirements-peers.txt`.

Each module has `fit(problem, settings, seed, report)`, which calls `report(body)` with the Python body of an
equation whenever it has a better one. The body goes through our own reader and no constant is fitted anew, so
that complexity, errors and match are taken by the same ruler.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmsr.config import option
from llmsr.errors import UserError

# name: (module, package that pip installs)
PEERS = {
    "gplearn": ("llmsr.benchmark.peers.gplearn", "gplearn"),
    "pyoperon": ("llmsr.benchmark.peers.operon", "pyoperon"),
    "pysr": ("llmsr.benchmark.peers.pysr", "pysr"),
}


@dataclass(frozen=True)
class PeerSettings:
    """another program"""

    peer: str = option("gplearn", "which program", choices=tuple(PEERS))
    cpu_seconds: float = option(300.0, "CPU seconds that it may take")
    population_size: int = option(1000, "individuals of a generation")

    def __post_init__(self) -> None:
        if self.cpu_seconds <= 0 or self.population_size < 10:
            raise UserError("cpu_seconds must be positive and population_size at least 10")
