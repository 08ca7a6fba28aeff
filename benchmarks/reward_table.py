"""Print the table of docs/rewards.md: what each shape gives to six answers on oscillator1.

python benchmarks/reward_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.reward import SHAPES, group_rewards, reward

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
    for shape in SHAPES:
        values = (
            group_rewards(list(found.values()), [False] * len(found), shape)
            if shape == "rank"
            else [reward(e, shape) for e in found.values()]
        )
        lines.append(f"| `{shape}` | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    values = [reward(e, complexity_weight=0.2) for e in found.values()]
    lines.append(
        "| `neg_log_nmse`, `--complexity_weight 0.2` | " + " | ".join(f"{v:.3f}" for v in values) + " |"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
