"""`python main.py --use_rl`: training from flags to its result."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from llmsr.cli.shared import Mode, print_json
from llmsr.grpo.run_record import stored_settings
from llmsr.grpo.settings import GrpoConfig
from llmsr.grpo.training import train
from llmsr.report.display import format_curve, format_result
from llmsr.report.runs import MOST_PAGES
from llmsr.settings import ProposerConfig, RunSettings, SearchSettings


def run_training(config: GrpoConfig, overrides: Sequence[str] = ()) -> int:
    """Train the model by GRPO and print the outcome.

    examples:
      python main.py --use_rl                                         on this machine, whatever it has
      python main.py --use_rl --problem_name oscillator1 --model_path Qwen/Qwen2.5-1.5B-Instruct \\
          --epochs 10 --batch_size 32 --learning_rate 1e-6 --rollout_n 5 --gpus 1
      python main.py --use_rl --problem_name oscillator1,bactgrow     one policy for two problems
      python main.py --use_rl --config configs/grpo_8gpu.yaml --dry_run
      python main.py --use_rl -- actor_rollout_ref.actor.ppo_epochs=2 arguments after -- are VERL's, and win
    """
    outcome = train(config, overrides)
    if not outcome:
        return 0
    model = outcome["model"]
    # without a model the run was interrupted
    code = 0 if model else 130
    if config.json:
        print_json(outcome)
        return code
    print(format_curve(outcome["curve"]))
    problems = outcome.get("problems") or [outcome]
    if len(problems) > MOST_PAGES:
        print(
            f"\n{len(problems)} problems; result.json in {outcome['directory']} has each one's best equation"
        )
        problems = []
    for found in problems:
        print()
        print(format_result(found))
    if not model:
        again = f"python main.py --use_rl --resume --output_dir {shlex.quote(outcome['directory'])}"
        print(f"interrupted; go on with: {again}", file=sys.stderr)
        return code
    print(f"\ntrained model: {model['path']} ({model['changed']} of {model['weights']} weights changed)")
    path = shlex.quote(model["path"])
    print(f"next: python main.py --model_path {path} --problem_name ANOTHER", file=sys.stderr)
    return 0


TRAIN = Mode(
    run_training,
    "python main.py --use_rl",
    stored_settings,
    (RunSettings, SearchSettings, ProposerConfig),
    "it belongs to a search, without --use_rl",
)
parser = TRAIN.parser


def main(argv: Sequence[str]) -> int:
    """Train with these words; those behind the first `--` are VERL's."""
    words = list(argv)
    place = words.index("--") if "--" in words else len(words)
    (config,) = TRAIN.read(words[:place])
    return run_training(config, words[place + 1 :])
