"""`python main.py --use_rl`: training from flags to its result."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence

from llmsr.config import Parser, add_options, flags_of, resolve
from llmsr.grpo.run_choice import stored_settings
from llmsr.grpo.settings import GrpoConfig
from llmsr.grpo.training import train
from llmsr.report.display import format_curve, format_result
from llmsr.settings import ProposerConfig, RunSettings, SearchSettings

EXAMPLES = """examples:
  python main.py --use_rl                                         on this machine, whatever it has
  python main.py --use_rl --problem_name oscillator1 --model_path Qwen/Qwen2.5-1.5B-Instruct \\
      --epochs 10 --batch_size 32 --learning_rate 1e-6 --rollout_n 5 --gpus 1
  python main.py --use_rl --problem_name oscillator1,bactgrow     one policy for two problems
  python main.py --use_rl --config configs/grpo_8gpu.yaml --dry_run
  python main.py --use_rl -- actor_rollout_ref.actor.ppo_epochs=2 arguments after -- are VERL's, and win
"""


def parser() -> argparse.ArgumentParser:
    """The flags of a training run."""
    parser = Parser(
        prog="main.py --use_rl", description=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags override it")
    parser.add_argument("--use_rl", nargs="?", help=argparse.SUPPRESS)
    add_options(parser, GrpoConfig)
    of_search = flags_of(RunSettings, SearchSettings, ProposerConfig)
    parser.elsewhere = dict.fromkeys(of_search, "it belongs to a search, without --use_rl")
    return parser


def main(argv: Sequence[str]) -> int:
    """Train, print the outcome, and return the exit code."""
    own, overrides = _split(argv)
    given = vars(parser().parse_args(own))
    path = given.pop("config")
    given.pop("use_rl", None)
    if given.get("resume") and path is None:
        # a resumed run has the settings that it began with, but for what is said now
        given = stored_settings(given) | given
    (config,) = resolve(GrpoConfig, given=given, path=path)
    outcome = train(config, overrides)
    if not outcome:
        return 0
    model = outcome["model"]
    # without a model the run was interrupted
    code = 0 if model else 130
    if config.json:
        print(json.dumps(outcome, indent=2))
        return code
    print(format_curve(outcome["curve"]))
    for found in outcome.get("problems") or [outcome]:
        print()
        print(format_result(found))
    if not model:
        where = shlex.quote(outcome["directory"])
        print(
            f"interrupted; go on with: python main.py --use_rl --resume --output_dir {where}", file=sys.stderr
        )
        return code
    print(f"\ntrained model: {model['path']} ({model['changed']} of {model['weights']} weights changed)")
    path = shlex.quote(model["path"])
    print(f"next: python main.py --model_path {path} --problem_name ANOTHER", file=sys.stderr)
    return 0


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our flags, and what follows the first `--`."""
    words = list(argv)
    if "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]
