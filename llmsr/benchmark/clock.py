"""What a run had taken when its archive had grown so far, from the ticks of its meter."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any


class Clock:
    """When a run had archived so many records: seconds, CPU and GPU seconds, over all its starts."""

    def __init__(self, usages: Sequence[Mapping[str, Any]]) -> None:
        self._usages = usages
        self._counts: list[int] = [0]
        self._at: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)]
        seconds = cpu = gpu = 0.0
        for usage in usages:
            for tick in usage["ticks"]:
                if tick[3] >= self._counts[-1]:
                    self._counts.append(tick[3])
                    self._at.append((seconds + tick[0], cpu + tick[1], gpu + tick[2]))
            seconds += usage["seconds"]
            cpu += usage["cpu_seconds"]
            gpu += usage["gpu_seconds"] or 0.0
        self._total = (seconds, cpu, gpu)

    def at(self, record: int) -> tuple[float, float, float]:
        """(seconds, CPU seconds, GPU seconds) at which record `record`, from 1, was in the archive.

        Between two looks at the archive it is taken to have grown evenly.
        """
        after = bisect.bisect_left(self._counts, record)
        if after >= len(self._counts):
            return self._total
        if after == 0:
            return self._at[0]
        n0, n1 = self._counts[after - 1], self._counts[after]
        share = (record - n0) / (n1 - n0)
        a, b = self._at[after - 1], self._at[after]
        return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2]))

    def totals(self, record: int | None = None) -> dict[str, Any]:
        """What all starts took, up to a record on demand; GPU figures are None where there was no GPU."""
        seconds, cpu, gpu = self._total if record is None else self.at(record)
        gpus = [u["gpu_seconds"] for u in self._usages if u["gpu_seconds"] is not None]
        gpu_bytes = [u["peak_gpu_bytes"] for u in self._usages if u["peak_gpu_bytes"] is not None]
        return {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "gpu_seconds": round(gpu, 2) if gpus else None,
            "peak_host_bytes": max((u["peak_host_bytes"] for u in self._usages), default=0),
            "peak_gpu_bytes": max(gpu_bytes, default=None),
        }
