"""The policy's arithmetic: shared prompts give what separate ones give, and gradients are real."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from llmsr.models.log_probs import log_probabilities  # noqa: E402
from llmsr.models.sampler import Drawing, Prompt, Sampler  # noqa: E402

PROMPTS = [[4, 4, 2, 7, 7, 3], [4, 4, 9], [4, 4, 6, 2]]
N = 3
ASKED = [Prompt(tokens, N, seed) for seed, tokens in enumerate(PROMPTS, 1)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


DRAWING = Drawing(temperature=1.3, max_tokens=9, end_tokens=frozenset({0, 31}))


REPEATED = [tokens for tokens in PROMPTS for _ in range(N)]


def written(one):
    return one.tokens if one.end is None else [*one.tokens, one.end]


def drawn_from(model, asked=ASKED):
    return [one for group in Sampler(model, DRAWING).sample(asked) for one in group]


@pytest.fixture
def answers(model):
    return [written(one) for one in drawn_from(model)]


def test_an_answer_ends_with_the_end_token_that_was_drawn(model):
    with torch.no_grad():
        model.lm_head.weight[0] = model.lm_head.weight[31]  # the two are drawn alike
    drawn = drawn_from(model, [replace(one, n=40) for one in ASKED])
    assert {one.end for one in drawn} == {0, 31, None}
    assert all((one.end is not None) == (one.reason == "stop") for one in drawn)
    assert all(not {0, 31} & set(one.tokens) for one in drawn)


def alone(model, prompt, answer, temperature):
    """Log-probabilities of one answer's tokens by one plain forward pass."""
    model.set_attn_implementation("sdpa")
    ids = torch.tensor([prompt + answer])
    logged = (model(ids).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
    return logged.gather(-1, torch.tensor(answer)[:, None])[:, 0]


def test_packed_prompts_and_answers_change_no_log_probability(model, answers):
    told = log_probabilities(model, REPEATED, answers, 1.3)
    for number, answer in enumerate(answers):
        expected = alone(model, REPEATED[number], answer, 1.3)
        assert torch.allclose(told.chosen[told.answers == number], expected, atol=1e-5)
    assert (told.entropy > 0).all()


def test_models_of_other_attention_are_read_the_plain_way(model, answers):
    together = log_probabilities(model, REPEATED, answers, 1.3)
    model.set_attn_implementation("sdpa")
    model.config.model_type = "unknown"
    apart = log_probabilities(model, REPEATED, answers, 1.3)
    assert torch.allclose(together.chosen, apart.chosen, atol=1e-5)
    assert torch.allclose(together.entropy, apart.entropy, atol=1e-5)
    assert (together.answers == apart.answers).all()


def test_the_gradient_equals_that_of_separate_passes(model, answers):
    log_probabilities(model, REPEATED, answers, 1.0).chosen.sum().backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for number, answer in enumerate(answers):
        alone(model, REPEATED[number], answer, 1.0).sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(together[name], parameter.grad, atol=2e-4), name


def test_an_answer_of_one_token_and_an_empty_one_are_no_fault(model):
    told = log_probabilities(model, [[1, 2], [1, 2]], [[3], []], 1.0)
    assert told.answers.tolist() == [0]
    assert torch.isfinite(told.chosen).all()


def test_new_weights_are_used_at_once(model, answers):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert [written(one) for one in drawn_from(model)] != answers


def test_what_was_read_with_other_weights_is_forgotten(model):
    shared = [replace(one, preface=2) for one in ASKED]
    kept = Sampler(model, DRAWING)
    kept.sample(shared)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    kept.forget()
    assert kept.sample(shared) == Sampler(model, DRAWING).sample(shared)
