"""Print the table of docs/rewards.md: what each shape gives to six answers on oscillator1.

python benchmarks/reward_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.reward import ranked, reward

CUBIC = (
    "    return (params[0] + params[1] * x + params[2] * v + params[3] * x * v + params[4] * x**2 + "
    "params[5] * v**2\n"
    "            + params[6] * x**3 + params[7] * v**3 + params[8] * x**2 * v + params[9] * x * v**2)\n"
)
ANSWERS = {
    "empty": "",
    "prose": "The acceleration of an oscillator depends on its position.",
    "constant": "    return params[0]\n",
    "linear": "    return params[0] + params[1] * x + params[2] * v\n",
    "cubic": CUBIC,
    "truth": "    return params[0] * np.sin(x) + params[1] * v**3 + params[2] * x**3 + params[3] * x * v"
    " + params[4] * x * np.cos(x)\n",
}


def table() -> str:
    """The table as Markdown."""
    with Evaluator(load_problem("oscillator1"), workers=1) as evaluator:
        found = {name: evaluator.evaluate(text) for name, text in ANSWERS.items()}
    errors = [f"{e.nmse['train']:.1e}" if e.ok else e.status for e in found.values()]
    lines = [
        "| shape | " + " | ".join(found) + " |",
        "|---|" + "---:|" * len(found),
        "| NMSE on train, or the kind of failure | " + " | ".join(errors) + " |",
    ]
    for told in ("neg_log_nmse", "neg_mse", "r2", "rank", "neg_log_nmse + 0.2*parsimony"):
        values = [reward(e, told) for e in found.values()]
        values = ranked(values) if told == "rank" else values
        lines.append(f"| `{told}` | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
