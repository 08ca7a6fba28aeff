"""A request to stop waits for the end of a step, and is heard then."""

import os
import signal
import threading

import pytest

from llmsr.interruption import handlers_kept, uninterrupted


@pytest.fixture
def heard_interrupts():
    """Python's own handler, since a shell starts background jobs with SIGINT ignored."""
    with handlers_kept():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield


@pytest.mark.usefixtures("heard_interrupts")
def test_a_signal_waits_for_the_end_of_the_step():
    done = []
    before = signal.getsignal(signal.SIGINT)

    def step():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_signal_nothing_is_raised_and_errors_pass():
    with uninterrupted():
        pass

    def step():
        with uninterrupted():
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        step()


def test_another_thread_may_use_it():
    found = []

    def work():
        with uninterrupted():
            found.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1]


def test_what_another_library_sets_is_undone():
    before = signal.getsignal(signal.SIGTERM)
    with handlers_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before
