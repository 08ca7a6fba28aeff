"""A prompt as a model's tokens: by its chat template, or the bare text for a model that has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmsr.errors import UserError
from llmsr.prompt import Chat, preface_end

PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TAIL_TOKENS = 12  # enough for the longest stop, one character a token
OPEN_THOUGHT = "<think>"


class ChatTemplate:
    """Turns chats into text and tokens as `tokenizer` has it; every trainer and proposer asks through it.

    `mode` is model (its own template), plain (the bare text) or auto (model where it has one). `plain`
    tells that the model sees the bare texts, one after the other. `UserError` where that cannot be done.
    """

    def __init__(self, tokenizer: Any, mode: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.plain = mode == "plain" or (mode == "auto" and not is_chat(tokenizer))
        if not self.plain and not tokenizer.chat_template:
            raise UserError(
                f"{tokenizer.name_or_path} has no chat template: take the bare text, with --chat_template "
                "plain in training and --api_mode completion in a search"
            )
        self._begins = self.plain and _adds_first_token(tokenizer)
        self._folds = not self.plain and self._refuses_system()

    @property
    def template(self) -> str | None:
        """A chat template that says the same as `text`; None where it is the model's own."""
        if not self.plain:
            return None
        return ("{{ bos_token }}" if self._begins else "") + PLAIN_TEMPLATE

    def fitting(self, chat: Chat) -> Chat:
        """The chat in roles that the template takes: where it knows no system, the user says all."""
        return chat.without_system() if self._folds else chat

    def text(self, chat: Chat) -> str:
        """What the model reads: the messages, and what the answer is begun with."""
        if self.plain:
            first = self.tokenizer.bos_token if self._begins else ""
            return first + "".join(message["content"] for message in chat.messages) + chat.begun
        text = self._rendered(self.fitting(chat).messages, bool(chat.thinking))
        if not chat.thinking and text.rstrip().endswith(OPEN_THOUGHT):
            text = f"{text.rstrip()}\n\n</think>\n\n"  # of a template that lets the model think in any case
        return text + chat.begun

    def encode(self, chat: Chat) -> tuple[list[int], int]:
        """The tokens, and how many of them the other prompts of the problem begin with too."""
        text = self.text(chat)
        fast = self.tokenizer.is_fast
        # a template states its own special tokens
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast)
        tokens = list(encoded["input_ids"])
        # only a fast tokenizer knows where its tokens stand in the text
        if not fast:
            return tokens, 0
        boundary = preface_end(text)
        preface = sum(end <= boundary for _, end in encoded["offset_mapping"])
        return tokens, min(preface, len(tokens) - 1)

    def count(self, chat: Chat) -> int:
        """How many tokens the chat comes to."""
        return len(self.encode(chat)[0])

    def _rendered(self, messages: Sequence[dict[str, str]], thinking: bool) -> str:
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=False, enable_thinking=thinking
            )
        except Exception as error:  # noqa: BLE001 - a template is a program that a model brings
            raise UserError(
                f"the chat template of {self.tokenizer.name_or_path} fails "
                f"({' '.join(str(error).split())[:200]}): take another model, or the bare text with "
                "--chat_template plain in training and --api_mode completion in a search"
            ) from None

    def _refuses_system(self) -> bool:
        """Whether only a conversation without a system message can be written."""
        user = {"role": "user", "content": "A"}
        try:
            text = self._rendered([{"role": "system", "content": "Sy5tem"}, user], thinking=False)
        except UserError:
            self._rendered([user], thinking=False)
            return True
        return "Sy5tem" not in text


def is_chat(tokenizer: Any) -> bool:
    """Whether a chat template adds anything to a message: one that does not belongs to a base model."""
    if not tokenizer.chat_template:
        return False
    said = [{"role": "user", "content": "A"}]
    try:
        text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    except Exception:  # noqa: BLE001 - as above; where it is used it will say so
        return True
    # some base models carry a template that repeats the message
    return text.replace(tokenizer.bos_token or "\0", "").strip() != "A"


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids of all tokens that end an answer, as the model's configurations and its tokenizer name them."""
    values = [
        getattr(owner, "eos_token_id", None) for owner in (model.generation_config, model.config, tokenizer)
    ]
    lists = [value if isinstance(value, list | tuple) else [value] for value in values]
    return frozenset(end for ends in lists for end in ends if end is not None)


def stop_test(tokenizer: Any, stops: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether an answer has come to a stop; `UserError` for a stop that the tokenizer cannot spell."""
    for stop in stops:
        spelt = tokenizer.decode(
            tokenizer(f"a{stop}a", add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False
        )
        if stop not in spelt:
            raise UserError(
                f"the tokenizer of {tokenizer.name_or_path} cannot spell {stop!r}, at which an answer ends: "
                "take another model, or --begin_answer none"
            )
    holds_line_end: dict[int, bool] = {}

    def is_over(tokens: list[int]) -> bool:
        tail = tokens[-TAIL_TOKENS:]
        for token in tail:
            if token not in holds_line_end:
                holds_line_end[token] = "\n" in tokenizer.decode([token])
        if not any(holds_line_end[token] for token in tail):
            return False  # every stop has a line end, and a whole tail costs more to decode
        text = tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return any(text.find(stop, 1 if len(tokens) <= TAIL_TOKENS else 0) >= 0 for stop in stops)

    return is_over


def _adds_first_token(tokenizer: Any) -> bool:
    begin = tokenizer.bos_token_id
    return begin is not None and tokenizer("a")["input_ids"][:1] == [begin]
