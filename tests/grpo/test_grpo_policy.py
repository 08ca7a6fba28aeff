"""The policy's arithmetic: shared prompts give what separate ones give, and gradients are real."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from llmsr.grpo.local.policy import Answer, draw_answers, log_probabilities  # noqa: E402

PROMPTS = [[5, 9, 2, 7, 7, 3], [4, 4], [8, 1, 6, 2]]
N = 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture
def answers(model):
    return draw_answers(
        model, PROMPTS, N, [1, 2, 3], temperature=1.3, max_tokens=9, end_tokens=frozenset({0, 31})
    )


def alone(model, prompt, answer, temperature):
    """Log-probabilities of one answer by one plain forward pass."""
    ids = torch.tensor([prompt + answer.tokens])
    logged = (model(ids).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
    return logged.gather(-1, torch.tensor(answer.tokens)[:, None])[:, 0]


def test_shared_prompts_and_padding_change_no_log_probability(model, answers):
    logged, entropy, mask = log_probabilities(model, PROMPTS, answers, N, 1.3)
    for row, answer in enumerate(answers):
        expected = alone(model, PROMPTS[answer.prompt], answer, 1.3)
        assert torch.allclose(logged[row][mask[row]], expected, atol=1e-5)
    assert torch.isfinite(logged[mask]).all()
    assert (entropy[mask] > 0).all()


def test_the_gradient_equals_that_of_separate_passes(model, answers):
    logged, _, mask = log_probabilities(model, PROMPTS, answers, N, 1.0)
    (logged * mask).sum().backward()
    shared = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sum(alone(model, PROMPTS[a.prompt], a, 1.0).sum() for a in answers).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(shared[name], parameter.grad, atol=2e-4), name


def test_answers_come_in_groups_with_their_end_token(answers):
    assert [answer.prompt for answer in answers] == [0] * N + [1] * N + [2] * N
    for answer in answers:
        assert answer.finished == (answer.tokens[-1:] == [0])
        assert 0 not in answer.tokens[:-1]


def test_an_answer_of_one_token_and_an_empty_one_are_no_fault(model):
    logged, _, mask = log_probabilities(model, [[1, 2]], [Answer([3], 0, True), Answer([], 0, False)], 2, 1.0)
    assert mask.sum() == 1
    assert torch.isfinite(logged).all()


def test_new_weights_are_used_at_once(model, answers):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    again = draw_answers(
        model,
        PROMPTS,
        N,
        [1, 2, 3],
        temperature=1.3,
        max_tokens=9,
        end_tokens=frozenset({0, 31}),
        prefaces=[2, 1, 2],
    )
    assert [a.tokens for a in again] != [a.tokens for a in answers]
