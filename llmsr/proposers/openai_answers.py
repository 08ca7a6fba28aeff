"""What stands in an answer of OpenAI's protocol: texts, token counts, and the sentence of an error."""

from __future__ import annotations

import json
from typing import Any

from llmsr.proposers.proposer import estimated_tokens


def choice_text(choice: Any, mode: str) -> str | None:
    """A choice's text; "" where a chat model said nothing (refused, or only reasoned), None if malformed."""
    if not isinstance(choice, dict):
        return None
    if mode != "chat":
        return choice["text"] if isinstance(choice.get("text"), str) else None
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ("" if content is None else None)


def token_counts(usage: Any, texts: list[str]) -> tuple[list[int], bool]:
    """Tokens per text, and whether they are guesses; a request's total is shared out by length."""
    total = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        return [estimated_tokens(text) for text in texts], True
    lengths = [len(text) + 1 for text in texts]
    ends = [total * sum(lengths[: i + 1]) // sum(lengths) for i in range(len(texts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)], False


def error_text(response: Any) -> str:
    try:
        content = json.loads(response.text)
    except (ValueError, RecursionError):
        return response.text[:200] or response.reason_phrase
    return error_message(content.get("error", content) if isinstance(content, dict) else content)


def error_message(error: Any) -> str:
    """The sentence in a service's error object."""
    if isinstance(error, dict):
        parts = [str(error[key]) for key in ("message", "detail", "code", "param") if error.get(key)]
        return "; ".join(parts)[:2000] or json.dumps(error)[:2000]
    return str(error)[:2000]
