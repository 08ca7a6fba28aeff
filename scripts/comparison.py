"""Writes docs/comparison_tables.md: what the kept measures of the shipped comparison say.

python scripts/comparison.py > docs/comparison_tables.md
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from claim import claim_markdown

from llmsr.benchmark.plan import read_plan
from llmsr.benchmark.results import read_results
from llmsr.benchmark.tables import summary_markdown
from llmsr.cli.benchmark import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "benchmark.yaml"
ARCHIVES = ROOT / "benchmarks" / "results"
NOTE = (
    "Made by `python scripts/comparison.py > docs/comparison_tables.md` from `benchmarks/results/`; a test "
    "keeps it so. What the columns and tests mean: [benchmark.md](benchmark.md); what to make of it: "
    "[comparison.md](comparison.md)."
)


def unpack(folder: Path) -> None:
    """Write the measures of every kept run below `folder`, as the benchmark lays them out."""
    for archive in sorted(ARCHIVES.glob("seed*.tar.xz")):
        with tarfile.open(archive) as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):  # extractall has no filter in 3.11.2
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())


def tables() -> str:
    """The whole page as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        results = read_results(read_plan(CONFIG, SETTINGS), Path(folder))
        title, _, rest = summary_markdown(results).partition("\n")
        return f"{title}\n\n{NOTE}\n{rest}\n{claim_markdown(results)}"


if __name__ == "__main__":
    print(tables(), end="")
