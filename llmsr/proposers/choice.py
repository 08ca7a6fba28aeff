"""Which source of completions a configuration means, made ready to use."""

from __future__ import annotations

import contextlib
import importlib.util
import logging

from llmsr.errors import UserError
from llmsr.proposers.bandit import Bandit
from llmsr.proposers.known_names import EMBEDDED, KnownNames, knows_few_names
from llmsr.proposers.proposer import Proposer
from llmsr.settings import ProposerConfig

log = logging.getLogger(__name__)


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
        from llmsr.proposers.replay import Replay

        return Replay(_needed(config.replay_path, name, "--replay_path FILE"))
    if name == "openai":
        from llmsr.proposers.openai_compatible import OpenAICompatible

        return OpenAICompatible(config)
    if name == "local-engine":
        from llmsr.proposers.local_engine import LocalEngine

        return LocalEngine(config)
    if name == "vllm":
        from llmsr.proposers.vllm_server import VLLMServer

        return _speaking(VLLMServer(config), config.model_path)
    if name == "grammar":
        from llmsr.proposers.grammar.proposer import GrammarProposer

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
