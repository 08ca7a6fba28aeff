"""VERL's own loss under our configuration has the local trainer's gradient, for every advantage."""

import copy
import importlib.util

import numpy as np
import pytest
from verl_plugin import loaded_plugin

torch = pytest.importorskip("torch")


from llmsr.grpo.advantage import batch_advantages  # noqa: E402
from llmsr.grpo.local_trainer import Answer, LocalTrainer  # noqa: E402
from llmsr.grpo.plan import make_plan  # noqa: E402
from llmsr.grpo.run_record import write_run_files  # noqa: E402
from llmsr.grpo.settings import ADVANTAGES, GrpoConfig  # noqa: E402
from llmsr.grpo.verl.config import verl_config, write_config  # noqa: E402
from llmsr.models.sampler import Prompt  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("verl") is None or importlib.util.find_spec("hydra") is None,
        reason="verl is not installed (tests/grpo/verl_requirements.txt)",
    ),
]

PROMPTS = [[4, 4, 2, 7, 7, 3], [4, 4, 9]]
LENGTHS = [3, 17, 8, 5, 11, 2, 6, 9]  # of the answers, four to a prompt
REWARDS = [0.1, 0.9, -0.8, 0.4, 0.3, 0.2, 0.7, 0.2]
N, MICRO = 4, 3


@pytest.fixture(scope="module", autouse=True)
def plugin():
    """Ours, as VERL's trainer loads it."""
    loaded_plugin()


def plans(folder, **settings):
    """The same run with either trainer."""
    given = {
        "batch_size": 2, "rollout_n": N, "prompts": 2, "max_response_length": 40, "learning_rate": 1e-9,
        "output_dir": str(folder), "device": "cpu", **settings,
    }  # fmt: skip
    local = make_plan(GrpoConfig(trainer="local", **given), cuda=False)
    verl = make_plan(GrpoConfig(trainer="verl", model_path=local.model_path, **given), cuda=True)
    write_run_files(verl, [])
    config = verl_config(verl, template=None, metrics_path=folder / "m.jsonl", environment={})
    write_config(config, folder)
    return local


def answers():
    drawn = torch.Generator().manual_seed(0)
    tokens = [torch.randint(2, 2000, (n,), generator=drawn).tolist() for n in LENGTHS]
    return [Answer(one, i // N, True) for i, one in enumerate(tokens)]


def verl_advantages(kind, folder, monkeypatch):
    """What the estimator that VERL calls says of each answer."""
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    monkeypatch.setenv("LLMSR_RUN_DIR", str(folder))
    mask = torch.zeros(len(LENGTHS), max(LENGTHS))
    rewards = torch.zeros_like(mask)
    for i, length in enumerate(LENGTHS):
        mask[i, :length] = 1
        rewards[i, length - 1] = REWARDS[i]
    index = np.array([f"uid {i // N}" for i in range(len(LENGTHS))], dtype=object)
    return get_adv_estimator_fn(f"llmsr_{kind}")(
        token_level_rewards=rewards, response_mask=mask, index=index
    )[0]


def verl_gradient(model, reference, advantages, folder):
    """The gradient of VERL's loss, added up over micro-batches as its engine does."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.utils.losses import ppo_loss

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base=None):
        actor = omega_conf_to_dataclass(compose("grpo_config").actor_rollout_ref.actor)
    everything, total = answers(), sum(LENGTHS)
    model.zero_grad()
    for first in range(0, len(everything), MICRO):
        part = range(first, min(first + MICRO, len(everything)))
        rows = [PROMPTS[everything[i].prompt] + everything[i].tokens for i in part]
        lengths = [LENGTHS[i] for i in part]

        def logged(which, rows=rows):
            """Log-probabilities as VERL has them: at each place that of the token that follows."""
            found = []
            for row in rows:
                ids = torch.tensor([row])
                chosen = which(ids).logits[0, :-1].float().log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
                found.append(torch.cat([chosen, chosen.new_zeros(1)]))
            return found

        def of_answers(values, rows=rows, lengths=lengths):
            parts = [v[len(r) - n - 1 : -1] for v, r, n in zip(values, rows, lengths, strict=True)]
            return torch.nested.as_nested_tensor(parts, layout=torch.jagged)

        told = logged(model)
        fields = {
            "prompts": torch.nested.as_nested_tensor(
                [torch.tensor(r[:-n]) for r, n in zip(rows, lengths, strict=True)], layout=torch.jagged
            ),
            "responses": torch.nested.as_nested_tensor(
                [torch.tensor(r[-n:]) for r, n in zip(rows, lengths, strict=True)], layout=torch.jagged
            ),
            "response_mask": torch.nested.as_nested_tensor(
                [torch.ones(n) for n in lengths], layout=torch.jagged
            ),
            "old_log_probs": of_answers([v.detach() for v in told]),
            "advantages": torch.nested.as_nested_tensor(
                [advantages[i, :n] for i, n in zip(part, lengths, strict=True)], layout=torch.jagged
            ),
        }
        if actor.use_kl_loss:
            with torch.no_grad():
                fields["ref_log_prob"] = of_answers(logged(reference))
        data = TensorDict(fields, batch_size=len(rows))
        tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=total, global_batch_size=len(everything))
        loss, _ = ppo_loss(
            actor, {"log_probs": torch.nested.as_nested_tensor(told, layout=torch.jagged)}, data
        )
        loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("kind", "kl_coef"), [*((kind, 0.0) for kind in ADVANTAGES), ("grpo", 0.3), ("drgrpo", 0.3)]
)
def test_both_trainers_have_one_gradient(tmp_path, monkeypatch, kind, kl_coef):
    plan = plans(tmp_path, advantage=kind, kl_coef=kl_coef)
    trainer = LocalTrainer(plan, [], [], None)
    trainer.model.eval()
    if trainer.reference is not None:  # in float32 and away from the policy: the formula is compared
        trainer.reference = copy.deepcopy(trainer.model)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
                parameter.add_(0.002 * noise)
    advantages = verl_advantages(kind, tmp_path, monkeypatch)
    wanted = verl_gradient(trainer.model, trainer.reference, advantages, tmp_path)
    own = batch_advantages(REWARDS, [i // N for i in range(len(LENGTHS))], kind, plan.config.k)
    assert advantages[:, 0].tolist() == pytest.approx(own.tolist(), abs=1e-6)
    monkeypatch.setattr("llmsr.grpo.local_trainer.GRADIENT_CLIP", 1e9)
    trainer.update([Prompt(tokens) for tokens in PROMPTS], answers(), torch.as_tensor(own).float())
    found = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert scale > 0
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=2e-3 * scale), name
