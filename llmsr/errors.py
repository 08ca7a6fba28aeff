"""The one exception that a user is meant to read."""

from __future__ import annotations

import re


class UserError(Exception):
    """Bad input: one clear sentence that names the thing and says what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def scrubbed(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text without `secrets` and what else looks like a key, on one line of at most 500 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"\b(?:sk|pk|hf|key)[-_][A-Za-z0-9_*-]{6,}", "***", text)
    text = re.sub(r"(?i)\b(bearer|basic)\s+[^\s\"',}]+", r"\1 ***", text)
    text = re.sub(r"(?i)(api[-_]?key[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+", r"\1***", text)
    text = re.sub(r"//[^/\s@]{1,200}@", "//***@", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:497] + "..."
