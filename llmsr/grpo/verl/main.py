"""VERL's entry point with less to wait for: `python -m llmsr.grpo.verl.main` in the place of its own.

VERL's own starts Ray, then has Ray start a process that imports everything once more and trains. Here the
trainer runs in this process and is imported while Ray starts, and the prompts, which the parent may still be
writing, are waited for last. It needs verl, so nothing else imports it.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hydra

POLL_SECONDS = 0.2


@hydra.main(config_path=None, config_name=None, version_base=None)
def main(config: Any) -> None:
    """Train as VERL's TaskRunner does; whatever it raises ends this process."""
    with ThreadPoolExecutor(1) as imports:
        imported = imports.submit(_import_trainer)
        _start_ray(config)
        imported.result()
    from verl.trainer.main_ppo import TaskRunnerV1
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    validate_config(config, need_reference_policy(config), need_critic(config))
    _wait_for(Path(config.data.train_files), Path(config.data.val_files))
    TaskRunnerV1.__ray_metadata__.modified_class().run(config)


def _import_trainer() -> None:
    import verl.trainer.main_ppo
    import verl.trainer.ppo.v1  # noqa: F401


def _start_ray(config: Any) -> None:
    import ray
    from omegaconf import OmegaConf
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    own = {"runtime_env": get_ppo_ray_runtime_env(config)}
    given = OmegaConf.to_container(OmegaConf.merge(own, config.ray_kwargs.ray_init))
    given["runtime_env"]["env_vars"]["TRANSFER_QUEUE_ENABLE"] = "1"
    ray.init(**given)


def _wait_for(*files: Path) -> None:
    parent = os.getppid()
    while not all(file.is_file() for file in files):
        if os.getppid() != parent:
            sys.exit("the process that writes the prompts has ended")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
