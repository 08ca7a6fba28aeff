"""Pages from templates: one file with its style and script inside, everything that is no markup escaped.

A page asks nothing of the network: its security policy forbids all loading, and lets only our own script run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsr.expression.printing import to_mathml

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from llmsr.report.equation import Equation

CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
SPLIT_TONES = {"train": 1, "test_id": 2, "test_ood": 3}
TEMPLATES = Path(__file__).with_name("templates")


def plain(text: object) -> str:
    """The text on one line, without the control characters that a terminal would obey."""
    return re.sub(f"[{CONTROLS}\t\n]+", " ", str(text))


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 1)] + "..."


def number(value: float) -> str:
    """A number as a label: 1500, 0.25, 1e-7."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def short(value: float | None) -> str:
    """An error in plain text."""
    return "not finite" if value is None else f"{value:.3e}"


def scientific(value: float | None, none: str = "–") -> Markup | str:
    """A number as markup, powers of ten as such: 5.2 × 10⁻¹¹."""
    from markupsafe import Markup

    if value is None:
        return none
    mantissa, e, exponent = number(value).replace("-", "−").partition("e")
    return Markup("{} × 10<sup>{}</sup>").format(mantissa, exponent) if e else mantissa


def mathml(equation: Equation) -> list[Markup]:
    """The simplified equation, an element for each term of an outermost sum."""
    from markupsafe import Markup

    shown = equation.law or equation.simplified.expression
    return [Markup(term) for term in to_mathml(plain(equation.target), shown, None)]


def duration(seconds: float) -> str:
    """Seconds as a person says them: 4.2 s, 12 min 5 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def in_docstring(text: str) -> str:
    """The lines as they may stand between three quotes."""
    lines = text.strip("\n").replace("\\", "\\\\").replace('"', "'").split("\n")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def is_secret(name: str) -> bool:
    """Whether a setting of this name may hold a secret."""
    return any(word in str(name).lower() for word in ("key", "secret", "password", "credential"))


def format_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    words: Collection[str] = (),
) -> str:
    """Columns aligned: the first and those named in `words` to the left, all others to the right.

    Every cell stands on one line. Lines longer than `width` are cut, so the longest column stands last.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(head):
        justify: Any = "left" if not index or name in words else "right"
        table.add_column(Text(plain(name)), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    text = io.StringIO()
    # as wide as it needs to be: rich would shorten every column where the lines do not fit
    Console(file=text, width=100_000, color_system=None, legacy_windows=False).print(table)
    return "\n".join(cut(line.rstrip(), width or 100_000) for line in text.getvalue().splitlines())


def aligned(text: str, width: int | None = None, words: Collection[str] = ()) -> str:
    """Lines of cells with tabs between them as a table, the first line its head, see `format_table`."""
    head, *rows = (line.split("\t") for line in text.splitlines() if line.strip())
    return format_table(head, rows, width, words) + "\n"


def render(name: str, **given: Any) -> str:
    """The page that a template makes of what it is given."""
    return str(template(name).render(**given))


def template(name: str) -> jinja2.Template:
    """A template by its file's name; what it renders is markup, safe to stand in another."""
    return _environment().get_template(name)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    # late: a command that writes no page should not wait for it
    import jinja2
    from markupsafe import Markup

    class Safe(jinja2.Template):
        """A template whose output is markup already."""

        def render(self, *args: Any, **given: Any) -> Markup:
            return Markup(super().render(*args, **given))

    def shown(value: Any) -> Any:
        """What stands in a page for a value: itself, or text without control characters."""
        return re.sub(f"[{CONTROLS}]+", " ", value) if type(value) is str else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html", "svg"]),
        finalize=shown,
        # a name that is not given is a fault and not an empty place
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    environment.template_class = Safe
    filters = (scientific, number, short, plain, duration, in_docstring, aligned)
    environment.filters |= {one.__name__: one for one in filters}
    environment.filters["whole"] = lambda value: f"{value:.0f}" if value == value else "–"
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    # what the security policy knows the script by, so that no other runs, whatever text got into a page
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(script),
        "script_hash": digest,
        "tones": SPLIT_TONES,
        "mathml": mathml,
    }
    environment.tests["secret"] = is_secret
    return environment
