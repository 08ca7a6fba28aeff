"""Text from outside made harmless: for one line of a terminal, and for markup."""

from __future__ import annotations

import html
import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"


def plain(text: object) -> str:
    """The text on one line, without the control characters that a terminal would obey."""
    return re.sub(f"[{_CONTROLS}\t\n]+", " ", str(text))


def escape(text: object) -> str:
    """The text for markup and its attributes: special characters escaped, control characters gone."""
    return html.escape(re.sub(f"[{_CONTROLS}]+", " ", str(text)), quote=True)
