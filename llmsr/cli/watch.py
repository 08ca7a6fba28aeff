"""`python -m llmsr watch DIR`: the page of a run that goes on, or of several side by side, in a browser."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from llmsr.cli.shared import Verb
from llmsr.config import Checked, option
from llmsr.errors import UserError
from llmsr.report.comparison import compared_runs, comparison_page
from llmsr.report.pages import report_page
from llmsr.report.runs import read_run

LOOPBACK = "127.0.0.1"
REST = 10.0  # times as long as making a page took, the next one is not made


@dataclass(frozen=True)
class WatchSettings(Checked):
    """what is served"""

    directories: tuple[str, ...] = option(
        MISSING, "directories of runs", metavar="DIR", positional=True, many=True
    )
    port: int = option(8808, "port of 127.0.0.1; 0: any that is free", least=0, most=65535)


class Pages:
    """The pages of runs, made anew where their archives have changed."""

    def __init__(self, directories: Sequence[str]) -> None:
        self.directories = directories
        self._lock = threading.Lock()
        self._made: dict[int | None, str] = {}
        self._state: tuple[object, ...] = ()
        self._not_before = 0.0

    def page(self, shown: int | None) -> str:
        """The page as text, with the equation at this place of the front; `UserError` if a run is gone."""
        with self._lock:
            state = tuple(
                (path, path.stat().st_size)
                for directory in self.directories
                for path in sorted(Path(directory).glob("archive/*.jsonl"))
            )
            if state != self._state and time.monotonic() >= self._not_before:
                self._made, self._state = {}, state
            if shown not in self._made:
                began = time.monotonic()
                self._made[shown] = self._page(shown)
                # a long archive takes seconds to read
                self._not_before = time.monotonic() + REST * (time.monotonic() - began)
            return self._made[shown]

    def _page(self, shown: int | None) -> str:
        if len(self.directories) > 1:
            return comparison_page(compared_runs(self.directories), live=True)
        runs = read_run(self.directories[0])
        if len(runs) > 1:
            raise UserError("a training over several problems has no live page; open its report.html")
        outputs = runs[0].outputs()
        result, front = outputs.result(_finished(runs[0].output)), outputs.picked_front()
        if shown is not None and not 0 <= shown < len(front.equations):
            shown = None
        return report_page(
            result, outputs.history, outputs.problem, outputs.settings, front, shown=shown, live=True
        )


def _finished(directory: Path) -> bool:
    """Whether the run's own result says that it is over."""
    try:
        return bool(json.loads((directory / "result.json").read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError):
        return False


def server(pages: Pages, port: int) -> ThreadingHTTPServer:
    """A server of the pages on loopback, bound and not yet serving; `UserError` where the port is taken."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # a page of another site must not read runs through a name of its own for this machine
            if self.headers.get("Host", "").rpartition(":")[0] not in (LOOPBACK, "localhost"):
                self._send(403, "only 127.0.0.1 and localhost are answered")
                return
            asked = urlsplit(self.path)
            if asked.path != "/":
                self._send(404, "there is one page, at /")
                return
            place = parse_qs(asked.query).get("equation", [""])[0]
            try:
                self._send(200, pages.page(int(place) if place.isdecimal() else None))
            except (UserError, OSError) as error:
                self._send(503, str(error))

        def _send(self, code: int, text: str) -> None:
            content = text.encode("utf-8", errors="replace")
            kind = "text/html" if code == 200 else "text/plain"
            headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)),
                       "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # fmt: skip
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are nobody's news."""

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Answer)
    except OSError as error:
        raise UserError(f"cannot serve at port {port}: {error.strerror}; name another with --port") from None


@Verb
def watch(given: WatchSettings) -> int:
    """Serve the page of a run, kept up to date while it goes on, or of several runs side by side.

    It is served to this machine alone: progress, the front and any equation of it with its fit and what it
    came from, islands, last answers. Only archives are read, so that finished runs open too.
    """
    pages = Pages(given.directories)
    pages.page(None)  # a directory without a run is told here, not in the browser
    with server(pages, given.port) as serving:
        print(f"http://{LOOPBACK}:{serving.server_port}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
