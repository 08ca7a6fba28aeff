"""The policy's arithmetic: shared prompts give what separate ones give, and gradients are real."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from llmsr.grpo.local.policy import Answer, Asked, Policy, log_probabilities  # noqa: E402
from llmsr.grpo.local.slots import SlotSampler  # noqa: E402
from llmsr.proposers.sampling import Drawing, Prompt, Sampler  # noqa: E402

PROMPTS = [[4, 4, 2, 7, 7, 3], [4, 4, 9], [4, 4, 6, 2]]
ASKED = [Asked(tokens) for tokens in PROMPTS]
N = 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


DRAWING = Drawing(temperature=1.3, max_tokens=9, end_tokens=frozenset({0, 31}))


@pytest.fixture
def answers(model):
    return Policy(model, DRAWING).draw(ASKED, N, [1, 2, 3])


def prompts_of(answers):
    return [PROMPTS[answer.prompt] for answer in answers]


def test_an_answer_ends_with_the_end_token_that_was_drawn(model):
    with torch.no_grad():
        model.lm_head.weight[0] = model.lm_head.weight[31]  # the two are drawn alike
    drawn = Policy(model, DRAWING).draw(ASKED, 40, [1, 2, 3])
    ends = [answer.tokens[-1] for answer in drawn if answer.finished]
    assert set(ends) == {0, 31}
    assert all(not {0, 31} & set(answer.tokens[: -1 if answer.finished else None]) for answer in drawn)


def alone(model, prompt, answer, temperature):
    """Log-probabilities of one answer's tokens by one plain forward pass."""
    model.set_attn_implementation("sdpa")
    ids = torch.tensor([prompt + answer.tokens])
    logged = (model(ids).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
    return logged.gather(-1, torch.tensor(answer.tokens)[:, None])[:, 0]


def test_packed_prompts_and_answers_change_no_log_probability(model, answers):
    told = log_probabilities(model, prompts_of(answers), answers, 1.3)
    for number, answer in enumerate(answers):
        expected = alone(model, PROMPTS[answer.prompt], answer, 1.3)
        assert torch.allclose(told.chosen[told.answers == number], expected, atol=1e-5)
    assert (told.entropy > 0).all()


def test_models_of_other_attention_are_read_the_plain_way(model, answers):
    together = log_probabilities(model, prompts_of(answers), answers, 1.3)
    model.set_attn_implementation("sdpa")
    model.config.model_type = "unknown"
    apart = log_probabilities(model, prompts_of(answers), answers, 1.3)
    assert torch.allclose(together.chosen, apart.chosen, atol=1e-5)
    assert torch.allclose(together.entropy, apart.entropy, atol=1e-5)
    assert (together.answers == apart.answers).all()


def test_the_gradient_equals_that_of_separate_passes(model, answers):
    log_probabilities(model, prompts_of(answers), answers, 1.0).chosen.sum().backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for answer in answers:
        alone(model, PROMPTS[answer.prompt], answer, 1.0).sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(together[name], parameter.grad, atol=2e-4), name


def test_slots_draw_what_the_plain_loop_draws(model):
    """On a CPU the steps run without a graph, which changes no number."""
    asked = [Prompt(tokens, n, seed=n) for tokens, n in zip(PROMPTS, (3, 1, 4), strict=True)]
    drawing = replace(DRAWING, is_over=lambda tokens: tokens[-1] == 5)
    expected = Sampler(model, drawing).sample(asked)
    assert {one.reason for group in expected for one in group} == {"stop", "length"}
    slots = SlotSampler(model, drawing)
    for _ in range(2):  # nothing of a call stays for the next
        assert slots.sample(asked) == expected


def test_answers_come_in_groups_with_their_end_token(answers):
    assert [answer.prompt for answer in answers] == [0] * N + [1] * N + [2] * N
    for answer in answers:
        assert answer.finished == (answer.tokens[-1] in (0, 31))
        assert not {0, 31} & set(answer.tokens[:-1])


def test_an_answer_of_one_token_and_an_empty_one_are_no_fault(model):
    told = log_probabilities(model, [[1, 2], [1, 2]], [Answer([3], 0, True), Answer([], 0, False)], 1.0)
    assert told.answers.tolist() == [0]
    assert torch.isfinite(told.chosen).all()


def test_new_weights_are_used_at_once(model, answers):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    shared = [Asked(tokens, 2) for tokens in PROMPTS]
    again = Policy(model, DRAWING).draw(shared, N, [1, 2, 3])
    assert [a.tokens for a in again] != [a.tokens for a in answers]
