"""Packed passes: the probabilities and gradients of rows read apart, each prompt read once."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from llmsr.models.log_probs import AnswerLogProbs, read_answers
from llmsr.models.packing import ATTENTION, pack, packed_tokens, split_passes

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
PROMPTS = [[5, 6, 7, 8], [9, 10], [5, 6, 7, 8], [5, 6, 7, 8], [9, 10], [5, 6, 9], [5, 6, 7]]
ANSWERS = [[11, 12, 13], [14], [11, 20], [21, 22, 23, 24, 25], [30, 31], [7, 8, 7], [32, 33]]


def models(config):
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").double()
    packed = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=ATTENTION).double()
    packed.load_state_dict(plain.state_dict())
    return plain, packed


def apart(model, temperature):
    """Log-probabilities and entropies of the answers' tokens, a forward pass per answer."""
    chosen, entropy = [], []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        logged = (logits / temperature).log_softmax(-1)
        chosen.append(logged.gather(-1, torch.tensor(answer)[:, None])[:, 0])
        entropy.append(-(logged.exp() * logged).sum(-1))
    return torch.cat(chosen), torch.cat(entropy)


def together(model, temperature):
    row = pack(PROMPTS, ANSWERS).to("cpu", torch.float32)
    out = read_answers(model, row.tokens[None], row.positions[None], row, temperature)
    return out.log_probs, out.entropy


@pytest.mark.parametrize("kind", [Qwen2Config, LlamaConfig, Qwen3Config])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_pack_has_the_probabilities_and_gradients_of_rows_read_apart(kind, tied, temperature):
    plain, packed = models(kind(**SIZES, tie_word_embeddings=tied))
    expected, found = apart(plain, temperature), together(packed, temperature)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4, check_dtype=False)
    weights = torch.linspace(-1, 1, len(expected[0]))
    (expected[0] * weights + 0.1 * expected[1]).sum().backward()
    (found[0] * weights + 0.1 * found[1]).sum().backward()
    for (name, ours), theirs in zip(packed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-5, rtol=1e-3, msg=name)


def test_checkpointed_layers_read_the_same_pack():
    plain, packed = models(Qwen2Config(**SIZES))
    packed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    packed.train()
    apart(plain, 1.0)[0].sum().backward()
    together(packed, 1.0)[0].sum().backward()
    for ours, theirs in zip(packed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-5, rtol=1e-3)


def test_each_prompt_stands_once():
    row = pack(PROMPTS, ANSWERS)
    # [5, 6, 7, 8], [9, 10] and what [5, 6, 9] adds; [5, 6, 7] adds nothing
    assert len(row.tokens) == 4 + 2 + 1 + sum(len(a) - 1 for a in ANSWERS)
    assert packed_tokens(PROMPTS, ANSWERS) == 4 + 2 + 3 + 3 + sum(map(len, ANSWERS))
    assert row.labels.tolist() == [token for answer in ANSWERS for token in answer]


def test_places_are_one_left_of_the_answers_tokens():
    row = pack(PROMPTS, ANSWERS)
    flat = [t for p, a in zip(PROMPTS, ANSWERS, strict=True) for t in p + a]
    assert [flat[place + 1] for place in row.answer_places] == row.labels.tolist()


def test_logits_in_chunks_are_the_whole(monkeypatch):
    torch.manual_seed(1)
    hidden, weights = torch.randn(7, 5, dtype=torch.float64), torch.randn(11, 5, dtype=torch.float64)
    labels = torch.randint(0, 11, (7,))
    found = {}
    for rows in (100, 2):
        monkeypatch.setattr("llmsr.models.log_probs.CHUNK_ROWS", rows)
        leaves = hidden.clone().requires_grad_(), weights.clone().requires_grad_()
        chosen, entropy = AnswerLogProbs.apply(*leaves, labels, 1.0, 3.0)
        (chosen.sum() + entropy.square().sum()).backward()
        found[rows] = [chosen.detach(), entropy.detach(), *(leaf.grad for leaf in leaves)]
    for whole, parts in zip(found[100], found[2], strict=True):
        torch.testing.assert_close(whole, parts)


def test_capped_logits_have_the_gradient_of_the_plain_formula():
    torch.manual_seed(2)
    leaves = [torch.randn(4, 3).requires_grad_(), torch.randn(6, 3).requires_grad_()]
    labels = torch.tensor([0, 5, 2, 2])
    AnswerLogProbs.apply(*leaves, labels, 0.5, 2.0)[0].sum().backward()
    ours = [leaf.grad.clone() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    logits = 2.0 * torch.tanh(leaves[0] @ leaves[1].T / 2.0) / 0.5
    logits.log_softmax(-1).gather(-1, labels[:, None]).sum().backward()
    for found, leaf in zip(ours, leaves, strict=True):
        torch.testing.assert_close(found, leaf.grad, atol=1e-5, rtol=1e-4)


def test_a_model_that_drops_the_pack_is_told():
    _, packed = models(Qwen2Config(**SIZES))
    with pytest.raises(ValueError, match="does not hand"):
        packed(torch.tensor([[1, 2, 3]]))


sequences = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=30
)  # which prompt, tokens of the answer


@given(sequences, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_passes_hold_every_sequence_once_and_none_is_empty(made, n_passes):
    prompts = [[which] * (3 + 4 * which) for which, _ in made]
    answers = [[1] * size for _, size in made]
    passes = split_passes(prompts, answers, n_passes)
    assert sorted(i for indices in passes for i in indices) == list(range(len(made)))
    assert len(passes) == n_passes
    if len(made) >= n_passes:
        assert all(passes)


def test_the_answers_to_a_prompt_stay_together_and_passes_are_even():
    prompts = [[i % 8] * 50 for i in range(40)]
    answers = [[1] * 10 for _ in range(40)]
    passes = split_passes(prompts, answers, 4)
    groups = [{tuple(prompts[i]) for i in indices} for indices in passes]
    assert all(len(a & b) == 0 for k, a in enumerate(groups) for b in groups[k + 1 :])
    assert [len(indices) for indices in passes] == [10, 10, 10, 10]
