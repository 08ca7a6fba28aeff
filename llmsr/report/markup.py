"""The frame of every page we write: one file with its style and script inside, everything else escaped.

A page asks nothing of the network: its security policy forbids all loading, and lets only our own script run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
SPLIT_TONES = {"train": 1, "test_id": 2, "test_ood": 3}
_TEMPLATE = Path(__file__).with_name("template.html")
_SCRIPT = """
var tip = document.getElementById("tip");
document.addEventListener("pointermove", function (event) {
  var at = event.target.closest ? event.target.closest("[data-tip]") : null;
  if (!at) { tip.style.visibility = "hidden"; return; }
  tip.textContent = at.getAttribute("data-tip");
  var left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  var top = event.clientY + 18;
  if (top + tip.offsetHeight > window.innerHeight) top = event.clientY - tip.offsetHeight - 12;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = top + "px";
  tip.style.visibility = "visible";
});
"""


def plain(text: object) -> str:
    """The text on one line, without the control characters that a terminal would obey."""
    return re.sub(f"[{CONTROLS}\t\n]+", " ", str(text))


def escape(text: object) -> str:
    """The text for markup and its attributes: special characters escaped, control characters gone."""
    return html.escape(re.sub(f"[{CONTROLS}]+", " ", str(text)), quote=True)


def number(value: float) -> str:
    """A number as a label: 1500, 0.25, 1e-7."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def scientific(value: float | None, none: str = "–") -> str:
    """A number as markup, powers of ten as such: 5.2 × 10⁻¹¹."""
    if value is None:
        return none
    mantissa, e, exponent = number(value).replace("-", "−").partition("e")
    return f"{mantissa} × 10<sup>{exponent}</sup>" if e else mantissa


def page(title: str, body: str) -> str:
    """The whole page around `body`, which is markup; `title` is text."""
    # the page may run the script of this hash and no other, whatever got into its text
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    frame = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in (("SCRIPT_HASH", f"sha256-{digest}"), ("SCRIPT", _SCRIPT), ("TITLE", escape(title))):
        frame = frame.replace(f"@@{name}@@", value)
    before, _, after = frame.partition("@@BODY@@")
    return before + body + after


def header(kicker: str, title: str, lead: str, note: str = "") -> str:
    """The head of a page; all of it text."""
    more = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(lead)}</p>{more}</header>'
    )


def section(title: str, *content: str, hint: str = "") -> str:
    about = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return f"<section><h2>{escape(title)}</h2>{about}{''.join(content)}</section>"


def figure(title: str, drawing: str, small: str = "") -> str:
    more = f" <small>{escape(small)}</small>" if small else ""
    return f"<figure><figcaption>{escape(title)}{more}</figcaption>{drawing}</figure>"


def grid(*content: str) -> str:
    return f'<div class="grid">{"".join(content)}</div>'


def details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def source(text: str) -> str:
    """Text to be copied, in a box."""
    return f"<pre>{escape(text)}</pre>"


def tiles(entries: Iterable[tuple[str, str, int | None]]) -> str:
    """Boxes of a figure (markup) and what it is; the number is a tone to mark it with."""
    made = []
    for value, name, tone in entries:
        mark = f'<i class="swatch tone{tone}"></i>' if tone else ""
        made.append(f'<div class="tile"><b>{value}</b><span>{mark}{escape(name)}</span></div>')
    return f'<div class="tiles">{"".join(made)}</div>'


def table(head: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], marked: int | None = None) -> str:
    """A table of markup cells; `head` has names with their cells' class ("n" for numbers, "wide", or "")."""
    names = "".join(f'<th class="{kind}">{escape(name)}</th>' for name, kind in head)
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in zip(row, head, strict=True))
        lines.append(f'<tr class="pick">{cells}</tr>' if index == marked else f"<tr>{cells}</tr>")
    content = f"<thead><tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{content}</table></div>'


def bars(entries: Sequence[tuple[str, int, int]], total: int) -> str:
    """Horizontal bars of (name, count, tone) as shares of `total`."""
    longest = max((count for _, count, _ in entries), default=1) or 1
    made = [
        f'<span>{escape(name)}</span><span class="bar tone{tone}" style="width:{100 * count / longest:.1f}%">'
        f'</span><span class="n">{count:,} · {count / max(total, 1):.1%}</span>'
        for name, count, tone in entries
    ]
    return f'<div class="bars">{"".join(made)}</div>'


def definitions(entries: Mapping[str, str]) -> str:
    """Names (text) with their values (markup)."""
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{v}</dd>' for k, v in entries.items())}</dl>"


def settings_list(settings: Mapping[str, Any]) -> str:
    """Settings and their values in columns; what may be a secret stays out."""
    lines = "".join(
        f"<div><span>{escape(k)}</span><b>{escape('–' if v is None else v)}</b></div>"
        for k, v in settings.items()
        if not is_secret(k)
    )
    return f'<div class="settings">{lines}</div>'


def is_secret(name: str) -> bool:
    """Whether a setting of this name may hold a secret."""
    return any(word in str(name).lower() for word in ("key", "secret", "password", "credential"))
