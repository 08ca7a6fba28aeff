"""How a server that speaks OpenAI's protocol wants to be asked, as its refusals teach it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import Any

from llmsr.prompt import Chat, Message
from llmsr.proposers.service import Refusal
from llmsr.settings import ProposerConfig

# in the order in which they are given up: what a model draws hangs on its temperature most of all
OPTIONAL = ("top_p", "temperature", "seed", "stop", "chat_template_kwargs")
CONTINUING = {"continue_final_message": True, "add_generation_prompt": False}
NOT_UNDERSTOOD = (400, 422)  # what servers answer to an argument that they do not know
ONE_BY_ONE = "one completion per request"
FEWEST_TOKENS = 64  # of an answer: a prompt that leaves fewer is made shorter instead

_SYSTEM = re.compile(r"system.{0,20}(role|message|prompt|instruction)|role.{0,20}system|roles must alternate")
_TOO_LONG = re.compile(
    r"context.{0,10}(length|size|window|limit)|maximum.{0,20}length"
    r"|(prompt|input|request).{0,20}too (long|large)|reduce the length"
    r"|max(_completion)?_tokens\b.{0,60}\b(large|at most|exceed|less than)"
)
_CONTEXT = (r"context[ _](?:length|size|window|limit)\D{0,20}(\d+)", r"maximum\D{0,40}length\D{0,20}(\d+)")
_TAKEN = (
    r"(\d+) (?:tokens )?(?:in|from) the (?:messages|prompt|input)",
    r"(\d+) (?:input|prompt|text input) tokens",
    r"(\d+) \+ \d+ > \d+",
    r"(\d+) tokens > \d+",
)
_MOST = (
    r"at most (\d+) (?:completion|output)",
    r"max(?:_completion)?_tokens\D{0,60}(?:at most|equal to|exceed)\D{0,20}(\d+)",
)


class TooLong(Exception):
    """A request over the model's context; `room` is the tokens left for an answer, if that is told."""

    def __init__(self, message: str, room: int | None) -> None:
        super().__init__(message)
        self.room = room


@dataclass(frozen=True)
class Dialect:
    """What a server understands of a request: all of it, until it refuses a part.

    `mode` is chat or completion; `tries_chat` that chat is only tried. `most_tokens` is what every answer may
    have at most, where the server has told. Dialects are values: a refusal makes another one of the one that
    the refused request was put in, so requests at the same time cannot give up more than one thing for it.
    """

    mode: str
    tries_chat: bool = False
    left_out: frozenset[str] = frozenset()
    token_limit: str = "max_tokens"
    most_tokens: int | None = None
    folds_system: bool = False
    one_by_one: bool = False

    def body(self, config: ProposerConfig, chat: Chat, seed: int, most: int | None = None) -> dict[str, Any]:
        """The JSON of a request for one answer, of at most `most` tokens if that is less than configured."""
        limits = (config.max_tokens + chat.thinking, self.most_tokens, most)
        body: dict[str, Any] = {self.token_limit: min(limit for limit in limits if limit)}
        body |= {"temperature": config.temperature, "top_p": config.top_p, "seed": seed % 2**31}
        if self.mode == "chat":
            chat = chat.without_system() if self.folds_system else chat
            body["messages"] = _with_picture(chat)
            if chat.begun:
                body["messages"].append({"role": "assistant", "content": chat.begun})
                body |= CONTINUING
            body["chat_template_kwargs"] = {"enable_thinking": bool(chat.thinking)}
        else:
            body["prompt"] = chat.messages[0]["content"]
        if chat.stops:
            body["stop"] = list(chat.stops)
        return {name: value for name, value in body.items() if name not in self.left_out}

    def after(
        self, refusal: Refusal, body: dict[str, Any], config: ProposerConfig
    ) -> tuple[Dialect, str] | None:
        """The dialect without what the refusal of `body` names, and that in words; None if it names nothing.

        Raises TooLong where the length was refused: that belongs to one prompt and not to the server.
        """
        status, message = refusal.status, str(refusal)
        told = message.lower()
        no_template = re.search(r"chat[ _]template(?!_kwargs)|not a chat model", told) is not None
        no_endpoint = status in (404, 405, 501) and "model" not in told
        if self.mode == "chat" and self.tries_chat and (no_template or no_endpoint):
            completing = replace(self, mode="completion", tries_chat=False, token_limit="max_tokens")
            return completing, "raw completions, since it does not chat"
        if status == 413:
            raise TooLong(message, None)
        if status not in NOT_UNDERSTOOD:
            return None
        if _TOO_LONG.search(told) and (most := _limit(message, body[self.token_limit])):
            return replace(self, most_tokens=most), f"--max_tokens {most}"
        if self.mode == "chat" and not self.folds_system and _SYSTEM.search(told):
            return replace(self, folds_system=True), "the system's words in the user's message"
        if "max_completion_tokens" in told and "max_tokens" in body and self.mode == "chat":
            return replace(self, token_limit="max_completion_tokens"), ""
        # the sentence of a refusal is all that tells which field is meant
        named = [name for name in OPTIONAL if name in body and re.search(rf"(?<![\w-]){name}(?![\w-])", told)]
        if named:
            default = ProposerConfig()
            name = min(named, key=lambda name: getattr(config, name, 0) != getattr(default, name, 0))
            return replace(self, left_out=self.left_out | {name}), f"no `{name}`"
        if "n" in body:
            return replace(self, one_by_one=True), ONE_BY_ONE
        return None


def _with_picture(chat: Chat) -> list[Message]:
    """The messages, the user's first one in parts where there is a picture to see."""
    messages = list(chat.messages)
    if chat.picture is None:
        return messages
    place = next(i for i, message in enumerate(messages) if message["role"] == "user")
    image = "data:image/png;base64," + base64.b64encode(chat.picture.png).decode("ascii")
    said = messages[place]["content"], chat.picture.words
    before, after = ({"type": "text", "text": words} for words in said)
    parts = [before, {"type": "image_url", "image_url": {"url": image}}, after]
    return [*messages[:place], {"role": "user", "content": parts}, *messages[place + 1 :]]


def _limit(message: str, asked: int) -> int | None:
    """The most tokens that any answer may have; TooLong, with the room that is told, for a long prompt."""
    told = re.sub(r"(?<=\d),(?=\d{3})", "", message.lower())
    context, taken, most = (_first(patterns, told) for patterns in (_CONTEXT, _TAKEN, _MOST))
    if context is not None and taken is not None:
        raise TooLong(message, context - taken)
    if context is None and taken is None and "max_" in told:
        # where no figure is told, halves come to one that is taken
        most = asked // 2 if most is None else most
        if FEWEST_TOKENS <= most < asked:
            return most
    raise TooLong(message, None)


def _first(patterns: tuple[str, ...], text: str) -> int | None:
    """The number that the first of the patterns finds."""
    found = (re.search(pattern, text) for pattern in patterns)
    return next((int(match[1]) for match in found if match), None)
