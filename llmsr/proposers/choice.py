"""Which sources of completions a configuration means, which one is asked next, and what answers cost."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.config import listed
from llmsr.errors import UserError
from llmsr.pictures import check_pictures
from llmsr.proposers.known_names import EMBEDDED, KnownNames, knows_few_names
from llmsr.proposers.proposer import BatchProposer, Completion, Proposer, Replay
from llmsr.settings import ProposerConfig, SearchSettings

log = logging.getLogger(__name__)

MILLION = 1e6
MEMORY = 0.99  # of what an answer told, once the next one is in: rates fall while a run goes on
LEAST_COST = 0.1  # of an answer, in mean answers: what costs nothing must not be all that is asked


def chosen_proposer(config: ProposerConfig) -> str:
    """The name in PROPOSERS that the configuration means, of several the list; "auto" is resolved here."""
    if config.proposer != "auto":
        return config.proposer
    if config.replay_path:
        return "replay"
    if config.use_api or config.api_base:
        return "openai"
    if config.port is not None:
        return "local-engine"
    if config.model_path:
        return "transformers"
    # found and not imported: torch takes seconds, and nobody may need it
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        log.warning("the grammar proposes, since the embedded model needs: pip install 'llmsr[lm]'")
        return "grammar"
    return "skeleton-lm"


def make_bandit(config: ProposerConfig) -> Bandit:
    """All proposers that the configuration asks for, ready to use; UserError if one cannot be had."""
    with contextlib.ExitStack() as begun:
        proposers = []
        for member in config.members:
            proposers.append(make_proposer(member))
            begun.callback(proposers[-1].close)
        bandit = Bandit(proposers, config.prices)
        begun.pop_all()
    return bandit


def make_proposer(config: ProposerConfig) -> Proposer:
    """The one proposer that the configuration asks for, ready to use; UserError if it cannot be had."""
    (config,) = config.members
    name = chosen_proposer(config)
    if name == "replay":
        return Replay(_needed(config.replay_path, name, "--replay_path FILE"))
    if name == "openai":
        from llmsr.proposers.openai_compatible import OpenAICompatible

        return OpenAICompatible(config)
    if name == "local-engine":
        from llmsr.proposers.service import LocalEngine

        return LocalEngine(config)
    if name == "vllm":
        from llmsr.proposers.vllm_server import VLLMServer

        return _speaking(VLLMServer(config), config.model_path)
    if name == "grammar":
        from llmsr.proposers.grammar import GrammarProposer

        return GrammarProposer()
    from llmsr.proposers.transformers_model import TransformersModel

    own = name == "skeleton-lm"
    path = str(EMBEDDED) if own else _needed(config.model_path, name, "--model_path MODEL")
    return _speaking(TransformersModel(config, path=path, name=name if own else None), path)


def _speaking(proposer: Proposer, model_path: str | None) -> Proposer:
    """The proposer, asked in names that its model knows if it is the embedded one or was trained from it."""
    return KnownNames(proposer) if model_path and knows_few_names(model_path) else proposer


def _needed(value: str | None, proposer: str, flag: str) -> str:
    if not value:
        raise UserError(f"--proposer {proposer} needs {flag}")
    return value


# ---- several models in one run


@dataclass
class _Told:
    """What a proposer's answers cost and how many improved; older ones count less."""

    cost: float = 0.0
    improvements: float = 0.0


class Bandit:
    """Asks more often the proposer that finds improvements for less.

    Improvements are taken for a Poisson process over the tokens spent, or the money where all proposers have
    prices: a rate is drawn from the Gamma posterior of each, and the largest is asked (Thompson, 1933). The
    prior is the rate of all together, with the weight of one improvement. What was told and the generator
    decide alone, so that a resumed run draws the same. `prices` are those of `--prices`.
    """

    def __init__(self, proposers: Sequence[Proposer], prices: str = "") -> None:
        self.proposers = {proposer.name: proposer for proposer in proposers}
        if len(self.proposers) < len(proposers):
            raise UserError("--proposer names one model twice; name each once")
        self.name = ",".join(self.proposers)
        self.parallel_prompts = max(proposer.parallel_prompts for proposer in proposers)
        self.prices = _prices(prices, tuple(self.proposers))
        self._told = {name: _Told() for name in self.proposers}

    def check(self, settings: SearchSettings) -> None:
        """`UserError` where a proposer cannot do what a search asks of it."""
        for flag, can in (("turns", "calls_tools"), ("vision", "sees")):
            for name, one in self.proposers.items() if getattr(settings, flag) else ():
                if not getattr(one, can, False):
                    told = f"--{flag} needs a server of chat models (--use_api)"
                    raise UserError(f"{told}, which {name} is not")
        if settings.vision:
            check_pictures()

    def close(self) -> None:
        for proposer in self.proposers.values():
            proposer.close()

    @property
    def ahead(self) -> int:
        """The prompts that are worth having in flight."""
        return max(batch_of(one) * (one.parallel_prompts + 1) for one in self.proposers.values())

    def room(self, in_flight: int, most: int) -> int:
        """How many prompts may be asked together; 0 while as many are in flight as fit into `most`."""
        largest = min(max(map(batch_of, self.proposers.values())), most)
        return largest if in_flight + largest <= most else 0

    def chosen(self, generator: np.random.Generator, without: Sequence[str] = ()) -> str:
        """The name of the proposer to ask next, none of those left out where there are others."""
        names = [name for name in self.proposers if name not in without] or list(self.proposers)
        told = [self._told[name] for name in self.proposers]
        rate = (1 + sum(one.improvements for one in told)) / (1 + sum(one.cost for one in told))
        drawn = [
            generator.gamma(1 + self._told[name].improvements) / (1 / rate + self._told[name].cost)
            for name in names
        ]
        return names[int(np.argmax(drawn))]

    def tell(self, name: str, tokens: int, cost: float, improved: bool) -> None:
        """Take note of an answer: its tokens, what it cost, and whether it is the best of its island."""
        spent = cost if len(self.prices) == len(self.proposers) else float(tokens)
        self._answers = self._answers * MEMORY + 1
        self._spent = self._spent * MEMORY + spent
        mean = self._spent / self._answers
        for one in self._told.values():
            one.cost *= MEMORY
            one.improvements *= MEMORY
        if name in self._told:  # an earlier part of the run may have asked others
            self._told[name].cost += max(spent / mean if mean else 1.0, LEAST_COST)
            self._told[name].improvements += improved

    _answers = _spent = 0.0

    def cost(self, name: str, completion: Completion) -> float:
        """What a completion cost, 0 without a price."""
        price_in, price_out = self.prices.get(name, (0.0, 0.0))
        return (completion.prompt_tokens * price_in + completion.tokens * price_out) / MILLION


def batch_of(proposer: Proposer) -> int:
    """The prompts that a proposer decodes together."""
    return proposer.batch_prompts if isinstance(proposer, BatchProposer) else 1


def _prices(text: str, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The prices of proposers by their names, of which the part behind the colon is enough."""
    found = {}
    for entry in listed(text):
        model, _, numbers = entry.rpartition("=")
        try:
            price_in, price_out = map(float, numbers.split("/"))
        except ValueError:
            price_in = price_out = -1.0
        if not (0 <= price_in < float("inf") and 0 <= price_out < float("inf")):
            raise UserError(f"--prices {entry!r} is no price; write MODEL=IN/OUT, per million tokens of each")
        meant = [name for name in names if model in (name, name.partition(":")[2])]
        if not meant:
            raise UserError(f"--prices names {model!r}, which is not asked; there are {', '.join(names)}")
        found[meant[0]] = price_in, price_out
    return found
