"""The page of a run that goes on, as its server sends it and as a browser shows it."""

import contextlib
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from replays import completions, write_replay
from test_report_page import CHROMIUM, Reader, chromium

from llmsr.cli import main
from llmsr.cli.watch import Pages, server
from llmsr.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Makes a run of so many samples in its directory, or goes on with it; the directory comes back."""
    folder = tmp_path_factory.mktemp("watch")
    replay = write_replay(folder / "texts.jsonl", completions(40))

    def search(budget):
        flags = ["--proposer", "replay", "--replay_path", str(replay), "--log_path", str(folder / "run")]
        flags += ["--budget", str(budget), "--refine", "off", "--structure_seconds", "0", "--workers", "1"]
        flags += ["--resume"] if (folder / "run").exists() else []
        with contextlib.chdir(ROOT):
            assert main(flags) == 0
        return folder / "run"

    search(12)
    return search


@contextlib.contextmanager
def served(*directories):
    """The address of a server of these runs."""
    with contextlib.chdir(ROOT), server(Pages([str(path) for path in directories]), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/"
        finally:
            serving.shutdown()


def get(address, host=None):
    """(status, text) of an answer."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_follows_the_run_and_shows_any_equation_of_the_front(run):
    with served(run(12)) as address:
        status, first = get(address)
        assert status == 200
        assert Reader(first).faults == []
        for heading in ("Best equation", "Last answers", "Progress", "Accuracy against size"):
            assert f"<h2>{heading}" in first
        assert "of 12 samples" in first
        places = first.count("?equation=")
        pages = [get(f"{address}?equation={place}")[1] for place in range(places)]
        assert sum("<h2>Best equation" in page for page in pages) == 1
        assert len({page.partition("R<sup>2")[2][:400] for page in pages}) == places
        assert sum("<h2>An equation of the front" in page for page in pages) == places - 1
        assert get(f"{address}?equation=99999")[1] == first
        run(24)
        end = time.monotonic() + 60  # a page is not made anew at once
        while "of 24 samples" not in get(address)[1]:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_only_this_machine_is_answered_and_a_run_that_is_gone_is_a_sentence(run, tmp_path):
    directory = shutil.copytree(run(24), tmp_path / "copy")
    with served(directory) as address:
        assert get(address, host="evil.example:80")[0] == 403
        assert get(f"{address}secret")[0] == 404
        assert get(address)[0] == 200
        shutil.rmtree(directory)
        status, told = get(f"{address}?equation=1")
        assert status == 503
        assert "no directory" in told
        with pytest.raises(UserError, match="--port"):
            server(Pages([]), int(address.rstrip("/").rpartition(":")[2]))


def test_several_runs_are_shown_side_by_side(run, tmp_path):
    directory = run(24)
    other = shutil.copytree(directory, tmp_path / "other")
    with served(directory, other) as address:
        status, text = get(address)
    assert status == 200
    assert "2 runs" in text
    assert "data-live" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_keeps_the_page_up_to_date_without_a_complaint(run, tmp_path):
    flags = ["--virtual-time-budget=9000", "--window-size=390,900", "--dump-dom"]
    with served(run(24)) as address:
        page, console = chromium(address, tmp_path / "profile", *flags)
    assert console == []
    assert 'role="status">live, ' in page
    assert "of 24 samples" in page
