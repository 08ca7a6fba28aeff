"""Models in this process: samples follow the model's own distribution, the seed, and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from llmsr.errors import UserError
from llmsr.models import sampler as models_sampler
from llmsr.models.chat_template import ChatTemplate, stop_test
from llmsr.models.loading import ARCHITECTURES, is_read_packed
from llmsr.models.packing import ATTENTION, pack
from llmsr.models.sampler import Drawing, Sampler
from llmsr.models.slots import Table, _least_by_halving, _least_by_sorting, draw
from llmsr.prompt import STOPS, Chat, Prompt, cut_at_stops, preface_end
from llmsr.proposers.choice import make_proposer
from llmsr.proposers.proposer import ProposerFailure
from llmsr.proposers.transformers_model import TransformersModel
from llmsr.settings import ProposerConfig

VOCABULARY = 260
END = 256
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": END,
    "pad_token_id": END,
}
PROMPT = (
    'import numpy as np\n\n\ndef equation_v0(x, params):\n    """Fits."""\n    return x\n\n\n'
    "def equation_v1(x, params):\n"
)


def tiny_model(kind: str = "llama", **changes: object):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SIZES | {"sliding_window": None} | changes))
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():  # far from uniform, so that a wrong position or mask shows
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model


def tiny_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)} | {"<end>": END}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.chat_template = template
    return fast


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def local(path: Path, **settings: object) -> TransformersModel:
    defaults = {"model_path": str(path), "device": "cpu", "dtype": "float32", "max_tokens": 24}
    proposer = make_proposer(ProposerConfig(**(defaults | settings)))
    assert isinstance(proposer, TransformersModel)
    return proposer


def sampler(model, **settings) -> Sampler:
    defaults = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 12, "end_tokens": frozenset()}
    return Sampler(model, Drawing(**(defaults | settings)))


def tokens_of(samples) -> list[list[int]]:
    return [sample.tokens for sample in samples]


# ---- the attention over a shared prompt


@pytest.mark.parametrize("common", [0, 6])
@pytest.mark.parametrize("prompt_slots", [None, 64])
@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
@torch.inference_mode()
def test_shared_prompts_give_the_logits_of_the_plain_model(kind, prompt_slots, common):
    model = tiny_model(kind)
    assert is_read_packed(model.config)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, 256, (length,), generator=generator).tolist() for length in (9, 30, 12)]
    prompts = [prompts[0][:common] + prompt[common:] for prompt in prompts]
    steps = torch.randint(0, 256, (6, 70), generator=generator)  # beyond the first slots
    rows = [0, 0, 0, 1, 1, 2]
    plain = [model(torch.tensor([prompts[p] + steps[i].tolist()])).logits[0] for i, p in enumerate(rows)]

    model.set_attn_implementation(ATTENTION)
    table = Table(model, [3, 2, 1], prompt_slots, 70, temperature=0.0)
    known = table.read(pack([prompts[0][:common]], [[]]), []) if common else []
    packed = pack(prompts, [[]] * 3, known=prompts[0][:common])
    table.begin(packed, known, torch.zeros(70, 6))
    kept = list(range(6))
    for step in range(70):
        for row, i in enumerate(kept):
            expected = plain[i][len(prompts[rows[i]]) + step - 1]
            assert torch.allclose(table.logits[row], expected, atol=2e-4), (step, i)
        if prompt_slots is None and step == 40:  # go on without one answer of the first prompt
            table.keep([0, 2, 3, 4, 5])
            kept = [0, 2, 3, 4, 5]
        if prompt_slots is None and step == 60:  # and without the second prompt
            table.keep([0, 1, 4])
            kept = [0, 2, 5]
        table.logits = torch.nn.functional.one_hot(steps[kept, step], VOCABULARY).float()
        assert table.next_tokens(1) == [steps[kept, step].tolist()]


def test_sliding_windows_and_other_architectures_go_the_plain_way():
    assert not is_read_packed(AutoConfig.for_model("mistral", sliding_window=64))
    assert not is_read_packed(AutoConfig.for_model("gpt2"))


def test_transformers_own_loop_is_as_greedy():
    shared, plain = (sampler(tiny_model(), temperature=0.0) for _ in range(2))
    plain.packs = False
    prompts = [models_sampler.Prompt(list(range(20)), 4, 7)]
    prompts.append(models_sampler.Prompt(list(range(50, 90)), 3, 8, preface=10))
    assert [tokens_of(s) for s in shared.sample(prompts)] == [tokens_of(s) for s in plain.sample(prompts)]


def test_transformers_own_loop_draws_by_the_seed_and_leaves_other_draws_alone():
    prompts = [models_sampler.Prompt(list(range(20)), 4, seed) for seed in (7, 8)]
    plain = sampler(tiny_model(), is_over=lambda tokens: tokens[-1] < 40)
    plain.packs = False
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = plain.sample(prompts)
    assert torch.rand(1) == expected
    assert tokens_of(first) != tokens_of(second)
    assert plain.sample(prompts[1:]) == [second]
    over = [one for one in first + second if one.reason == "stop"]
    assert over
    assert all(one.tokens[-1] < 40 and min(one.tokens[:-1], default=40) >= 40 for one in over)


def test_fixed_slots_draw_what_growing_ones_draw():
    """As on a GPU, whose graph changes no number."""
    model = tiny_model()
    ends = frozenset(range(0, VOCABULARY, 25))
    settings = {"max_tokens": 30, "end_tokens": ends, "is_over": lambda tokens: tokens[-1] == 5, "top_p": 0.9}
    asked = [models_sampler.Prompt(list(range(50, 50 + n)), n, seed=n, preface=2) for n in (3, 4, 9)]
    expected = sampler(model, **settings).sample(asked)
    assert {one.reason for group in expected for one in group} == {"stop", "length"}
    fixed = sampler(model, **settings)
    fixed.fixed = True
    table = fixed._table(asked)
    with torch.inference_mode():  # as a graph is captured, before anything was read
        table.slots.begin([[0]] * len(asked))
        for _ in range(3):
            table._step()
    for _ in range(2):  # nothing of a call stays for the next
        assert fixed.sample(asked) == expected


def test_a_model_of_another_architecture_is_sampled():
    config = AutoConfig.for_model(
        "gpt2", n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=128
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ends = frozenset(range(0, 256, 5))  # rows end at different steps
    (samples,) = sampler(model, end_tokens=ends).sample([models_sampler.Prompt(list(range(20)), 5, 7)])
    assert any(len(s.tokens) < 12 for s in samples)
    assert any(s.reason == "stop" for s in samples)


# ---- the draws


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    n = 40_000
    drawn = draw(logits.expand(n, -1), torch.rand(n, generator=torch.Generator().manual_seed(1)), 1.0, 1.0)
    shares = torch.bincount(drawn, minlength=4) / n
    for share, probability in zip(shares.tolist(), [0.5, 0.3, 0.15, 0.05], strict=True):
        assert abs(share - probability) < 5 * math.sqrt(probability / n)


def test_top_p_leaves_out_the_tail_and_nothing_else():
    logits = torch.log(torch.tensor([0.05, 0.5, 0.3, 0.15]))
    uniform = torch.linspace(0, 0.9999, 1000)
    drawn = draw(logits.expand(1000, -1), uniform, 1.0, 0.7)
    shares = torch.bincount(drawn, minlength=4) / 1000
    assert shares.tolist() == pytest.approx([0, 0.625, 0.375, 0], abs=0.002)


def test_top_p_draws_the_same_by_the_likely_tokens_as_by_all_of_them(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(500, 256, generator=generator) * torch.linspace(0.5, 8, 500)[:, None]
    uniform = torch.rand(500, generator=generator)
    assert (logits.softmax(-1).topk(128).values.sum(-1) < 0.95).any()  # flat rows
    drawn = draw(logits, uniform, 1.0, 0.95)
    monkeypatch.setattr("llmsr.models.slots.LIKELY_TOKENS", 256)
    assert (draw(logits, uniform, 1.0, 0.95) == drawn).all()


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.98, 0.99999])
def test_the_bisection_of_a_graph_finds_the_nucleus_that_sorting_finds(top_p):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(500, 256, generator=generator) * torch.linspace(0.0, 30, 500)[:, None]
    probability = logits.double().softmax(-1)  # else sums differ in their last digits
    sorted_out = probability >= _least_by_sorting(probability, top_p)
    halved = probability >= _least_by_halving(probability, top_p)
    assert (halved.sum(-1) >= 1).all()
    assert (sorted_out == halved).all()


def test_the_ends_of_the_unit_interval_are_drawn_within_the_vocabulary():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf]])
    for uniform in (0.0, 1.0 - 2**-24):
        assert draw(logits, torch.tensor([uniform]), 1.0, 1.0).item() == 1


def test_temperature_zero_is_greedy():
    (samples,) = sampler(tiny_model(), temperature=0.0).sample([models_sampler.Prompt([1, 2, 3], 3, 0)])
    first, second, third = tokens_of(samples)
    assert first == second == third


# ---- seeds


def test_the_same_seed_gives_the_same_text_and_another_one_does_not(directory):
    texts = [[c.text for c in local(directory).propose(Prompt(PROMPT), 4, seed)] for seed in (5, 5, 6)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert len(set(texts[0])) == 4


def test_what_was_asked_before_changes_nothing(directory):
    proposer = local(directory)
    fresh = [c.text for c in proposer.propose(Prompt(PROMPT), 4, 5)]
    for i in range(6):
        proposer.propose(Prompt(f"def g(x):\n    '''{i}'''\n"), 2, i)
        proposer.propose(Prompt(PROMPT + "    a = 1\n"), 2, i)
    assert [c.text for c in proposer.propose(Prompt(PROMPT), 4, 5)] == fresh


def test_prompts_asked_together_answer_as_if_alone(directory):
    proposer = local(directory)
    prompts = [PROMPT, PROMPT.replace("v1", "v2") + "    a = 1\n", "def f(x):\n"]
    together = proposer.propose_many([Prompt(prompt) for prompt in prompts], 3, [1, 2, 3])
    alone = [
        proposer.propose(Prompt(prompt), 3, seed) for prompt, seed in zip(prompts, [1, 2, 3], strict=True)
    ]
    assert [[c.text for c in one] for one in together] == [[c.text for c in one] for one in alone]


def test_threads_get_what_they_would_get_alone(directory):
    from concurrent.futures import ThreadPoolExecutor

    proposer = local(directory)
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda seed: proposer.propose(Prompt(PROMPT), 2, seed)[0].text, range(8)))
    assert texts == [proposer.propose(Prompt(PROMPT), 2, seed)[0].text for seed in range(8)]


# ---- ends


def test_the_end_token_ends_a_sample_and_is_not_counted(directory):
    ends = frozenset(range(0, VOCABULARY, 3))
    (samples,) = sampler(tiny_model(), end_tokens=ends, max_tokens=40).sample(
        [models_sampler.Prompt([1, 2, 3], 8, 0)]
    )
    assert all(sample.reason == "stop" for sample in samples)
    assert all(token not in ends for sample in samples for token in sample.tokens)


def test_dropping_finished_samples_changes_no_other():
    ends = frozenset(range(0, VOCABULARY, 9))
    (dropping,) = sampler(tiny_model(), end_tokens=ends, max_tokens=40).sample(
        [models_sampler.Prompt([1, 2, 3], 8, 0)]
    )
    (all_rows,) = sampler(tiny_model(), max_tokens=40).sample([models_sampler.Prompt([1, 2, 3], 8, 0)])
    for short, long in zip(tokens_of(dropping), tokens_of(all_rows), strict=True):
        assert short == long[: len(short)]


def test_a_raw_completion_is_not_sampled_beyond_the_next_function(directory):
    tokenizer = local(directory)._tokenizer
    told = tokenizer("    return x\n\n\ndef equation_v2(x):\n    return 1")["input_ids"]
    is_over = stop_test(tokenizer, STOPS)
    stopped = next(i for i in range(1, len(told)) if is_over(told[:i]))
    assert tokenizer.decode(told[:stopped]).endswith("\ndef ")
    assert cut_at_stops(tokenizer.decode(told)) == "    return x\n\n"


def test_a_stop_that_a_tokenizer_cannot_spell_is_a_user_error():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")), unk_token="?"
    )
    with pytest.raises(UserError, match="cannot spell"):
        stop_test(tokenizer, ("\n",))


def test_a_template_that_knows_no_system_gets_one_user_message():
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    silent = (
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    )
    chat = Chat(({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}), "return")
    for template in (refusing, silent):
        made = ChatTemplate(tiny_tokenizer(template))
        assert made.text(chat) == "<user>Be brief.\n\nWhich?<assistant>return"
    with pytest.raises(UserError, match=r"chat template of .* fails \(no chats"):
        ChatTemplate(tiny_tokenizer("{{ raise_exception('no chats') }}"))


def test_thinking_reaches_the_template_and_an_opened_thought_is_closed():
    asks = TEMPLATE + "{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    chat = Chat(({"role": "user", "content": "Which?"},), "return")
    template = ChatTemplate(tiny_tokenizer(asks))
    assert template.text(chat) == "<user>Which?<assistant><think>\n\n</think>\n\nreturn"
    assert template.text(Chat(chat.messages, thinking=9)) == "<user>Which?<assistant><think>\n"
    always = ChatTemplate(tiny_tokenizer(TEMPLATE + "<think>\n"))
    assert always.text(chat) == "<user>Which?<assistant><think>\n\n</think>\n\nreturn"


def test_the_token_limit_holds(directory):
    assert {c.tokens for c in local(directory, max_tokens=7).propose(Prompt(PROMPT), 3, 0)} <= set(range(8))


def test_a_prompt_longer_than_the_model_is_a_failure_with_both_lengths(directory):
    with pytest.raises(ProposerFailure, match=r"600 tokens.*512"):
        local(directory).propose(Prompt("x" * 600), 1, 0)


def test_the_limit_shrinks_to_the_room_behind_the_prompt(directory):
    completions = local(directory, max_tokens=400).propose(Prompt("x" * 480), 2, 0)
    assert all(c.tokens <= 32 for c in completions)


# ---- chat and raw


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
CONCATENATION = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "mode", "chats"),
    [
        (None, "auto", False),
        (TEMPLATE, "auto", True),
        (CONCATENATION, "auto", False),
        (TEMPLATE, "completion", False),
    ],
)
def test_chat_models_get_a_chat_and_base_models_the_bare_prompt(tmp_path, template, mode, chats):
    tiny_model(max_position_embeddings=1024).save_pretrained(tmp_path)
    tiny_tokenizer(template).save_pretrained(tmp_path)
    proposer = local(tmp_path, api_mode=mode)
    said = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"})
    prompt = Prompt(PROMPT, Chat(said, "return", ("\n",)))
    asked = []
    sample = proposer._sampler.sample
    proposer._sampler.sample = lambda prompts: asked.extend(prompts) or sample(prompts)
    (completion,) = proposer.propose(prompt, 1, 0)
    text = proposer._tokenizer.decode(asked[0].tokens)
    assert text == ("<system>Be brief.<user>Which?<assistant>return" if chats else PROMPT)
    assert completion.text.startswith("return") == chats


def test_chat_without_a_template_is_a_user_error(directory):
    with pytest.raises(UserError, match="chat template"):
        local(directory, api_mode="chat")


def test_the_preface_ends_behind_the_first_functions_docstring():
    assert PROMPT[: preface_end(PROMPT)].endswith('"""Fits."""')
    assert preface_end("no function here") == 0


# ---- models that cannot be had


def test_a_misspelt_directory_is_a_user_error_with_the_nearest(directory):
    with pytest.raises(UserError, match=rf"did you mean .*{directory.name}"):
        local(directory.with_name("tinny"))


def test_a_directory_below_the_home_may_be_written_with_a_tilde(directory, monkeypatch):
    monkeypatch.setenv("HOME", str(directory.parent))
    model = local(f"~/{directory.name}")
    assert model.propose(Prompt("return"), 1, 0)


def test_a_directory_without_a_model_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        local(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        local(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(tmp_path, directory):
    import json
    import shutil

    path = tmp_path / "custom"
    shutil.copytree(directory, path)
    config = json.loads((path / "config.json").read_text())
    config |= {
        "model_type": "unheard_of",
        "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"},
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "mine.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    with pytest.raises(UserError, match="trust_remote_code"):
        local(path)
    assert not (tmp_path / "touched").exists()


def test_broken_weights_are_a_user_error(tmp_path, directory):
    import shutil

    path = tmp_path / "broken"
    shutil.copytree(directory, path)
    (path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(UserError, match="cannot load"):
        local(path)


def test_weights_that_are_missing_are_a_user_error(tmp_path, directory):
    import shutil

    from safetensors.torch import load_file, save_file

    path = tmp_path / "partial"
    shutil.copytree(directory, path)
    weights = load_file(path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="up_proj"):
        local(path)


def test_a_hub_out_of_reach_is_a_user_error_at_once(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached"):
        local(Path("nobody/no-such-model-here"))


@pytest.mark.parametrize("settings", [{"device": "abacus"}, {"dtype": "float12"}])
def test_unknown_devices_and_dtypes_are_user_errors(directory, settings):
    with pytest.raises(UserError, match="unknown"):
        local(directory, **settings)
