"""What all tests share: evaluators whose worker processes stay warm from one test to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from warm_workers import Warm

WARM = Warm(most=os.cpu_count() or 1)


@pytest.fixture(scope="session", autouse=True)
def _warm_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmsr.evaluator.WorkerPool", WARM.pool)
        yield
    WARM.release()


@pytest.fixture
def own_workers() -> Iterator[None]:
    """Evaluators of this test start worker processes of their own and end them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WARM, "most", 0)
        WARM.release()
        yield
