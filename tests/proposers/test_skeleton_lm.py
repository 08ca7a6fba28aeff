"""The embedded model and what it was trained on: grammar, prompts, held-out laws, files, samples."""

# ruff: noqa: E402

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice, permutations
from pathlib import Path
from random import Random

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / "training" / "skeleton_lm"
MODEL = ROOT / "llmsr" / "proposers" / "skeleton_lm"
sys.path.insert(0, str(TRAINING))

import corpus
import held_out
from words import random_words

from llmsr.completion import NoBody, read_completion
from llmsr.expression import Refusal, evaluate, parse
from llmsr.expression.canonical import canonical_hash
from llmsr.problem.spec import load_spec, parse_spec
from llmsr.prompt import Version, build_prompt
from llmsr.proposers.grammar import mutate, random_body, read_body
from llmsr.proposers.grammar.trees import body_text, count_params, key

PROBLEMS = ("oscillator1", "oscillator2", "bactgrow", "stressstrain")
LAWS = {
    ("x", "v"): "return 0.8*np.sin(x) - 0.5*v**3 - 0.2*x**3 - 0.5*x*v - x*np.cos(x)",
    ("t", "x", "v"): "return 0.3*np.sin(t) - 0.5*v**3 - x*v - 5*x*np.exp(0.5*x)",
    ("b", "s", "temp", "pH"): "return 0.5*b*s/(1 + s)*np.tanh(0.4*(temp - 20))/(1 + 0.005*(temp - 35)**4)"
    "*np.exp(-np.abs(pH - 7))*np.sin(np.pi*(pH - 2)/10)**2",
    ("strain", "temp"): "return np.minimum(36.2476*strain,"
    " (0.8921 - 0.3041*strain**3.2557)*(1 - ((temp - 0.0667)/1.0703)**1.8185))",
}


def test_random_bodies_parse_and_keep_to_the_limit_of_params() -> None:
    rng = Random(1)
    for _ in range(400):
        columns = ["x", "vel", "T_c", "pH"][: rng.randint(1, 4)]
        most = rng.choice((1, 2, 3, 10))
        body = random_body(rng, columns, most)
        expression = parse(body, columns, max_params=most)
        assert not isinstance(expression, Refusal), f"{expression}: {body}"
        assert expression.inputs
        assert expression.params == tuple(range(len(expression.params)))


def test_a_seed_gives_the_same_body_again() -> None:
    assert random_body(Random(5), ["x", "v"], 10) == random_body(Random(5), ["x", "v"], 10)


def test_bodies_over_signed_columns_are_defined_for_negative_values() -> None:
    rng, values = Random(2), np.random.default_rng(0)
    inputs, params = values.uniform(-2, 2, (50, 2)), values.uniform(0.5, 1.5, 10)
    undefined = 0
    for _ in range(300):
        expression = parse(random_body(rng, ["x", "v"], 10, signed=[0, 1]), ["x", "v"])
        undefined += bool(np.isnan(evaluate(expression, inputs, params)).any())
    assert undefined <= 3


def test_mutate_changes_the_equation_and_keeps_it_valid() -> None:
    rng = Random(3)
    columns = ["x", "v", "t"]
    body = "    return params[0] * x + params[1] * v + params[2] * t + params[3]"
    for _ in range(300):
        new = mutate(rng, body, columns, 10)
        assert not isinstance(parse(new, columns), Refusal), new
        old_tree, new_tree = read_body(body, columns), read_body(new, columns)
        assert old_tree
        assert new_tree
        assert key(old_tree) != key(new_tree)
        body = new


def test_mutate_draws_afresh_where_it_cannot_read() -> None:
    for text in (
        "",
        "this is prose",
        "    for i in x:\n        pass\n    return 1",
        "    return " + "(" * 5000,
    ):
        assert not isinstance(parse(mutate(Random(4), text, ["x"], 10), ["x"]), Refusal)


def test_combining_takes_terms_of_both_parents() -> None:
    first, second = "return params[0] * np.sin(x)", "return params[0] * np.tanh(v)"
    bodies = [mutate(Random(i), first, ["x", "v"], 10, other=second) for i in range(200)]
    assert any("sin(x)" in body and "tanh(v)" in body for body in bodies)


def test_a_body_reads_back_as_the_same_tree() -> None:
    rng = Random(6)
    for _ in range(300):
        body = random_body(rng, ["x", "v"], 10)
        tree = read_body(body, ["x", "v"])
        assert tree is not None
        again = body_text(tree, ["x", "v"])
        twice = read_body(again, ["x", "v"])
        assert twice is not None
        assert key(twice) == key(tree)
        assert count_params(twice) == count_params(tree)


def _spec_text(words) -> str:
    docstring = f'    """{words.docstring}"""\n' if words.docstring else ""
    stated = "" if "NPARAMS" in words.preface else "\n\nMAX_NPARAMS = 10\n"  # a spec has to say it somewhere
    return (
        f"{words.preface}\n\n\n@evaluate.run\ndef evaluate(data: dict) -> float:\n    return 0.0\n\n\n"
        f"@equation.evolve\n{words.header}\n{docstring}"
        f"    return {words.params_name}[0] * {words.columns[0]}\n{stated}"
    )


def test_corpus_prompts_are_those_of_a_spec_file_with_the_same_words() -> None:
    rng = Random(7)
    for _ in range(60):
        words = random_words(rng)
        spec = parse_spec(_spec_text(words))
        assert (spec.columns, spec.params_name) == (words.columns, words.params_name)
        before = corpus.heads(words)
        bodies = [random_body(rng, words.columns, 3, params_name=words.params_name) for _ in range(3)]
        for count in range(4):
            text = "".join(head + body for head, body in zip(before, bodies[:count], strict=False))
            assert text + before[count] == build_prompt(spec, [Version(body, 0.0) for body in bodies[:count]])


def test_every_body_of_the_corpus_is_valid_and_new_in_its_document() -> None:
    for before, bodies, _ in islice(corpus.documents(Random(8)), 300):
        header = before[0].rsplit("def ", 1)[1]
        names = re.findall(r"(\w+)(?:: [\w.]+)?[,)]", header[: header.index(":\n")])
        most = re.search(r"MAX_NPARAMS = (\d+)", before[0])
        for body in bodies:
            expression = parse(
                body, names[:-1], params_name=names[-1], max_params=int(most[1]) if most else 20
            )
            assert not isinstance(expression, Refusal), f"{expression.reason}\n{body}"
        assert len(set(bodies)) == len(bodies)


def test_documents_differ_between_seeds_and_within_one() -> None:
    first, second = (
        [bodies[-1] for _, bodies, _ in islice(corpus.documents(Random(seed)), 400)] for seed in (0, 1)
    )
    assert len({*first, *second}) > 780


@pytest.mark.parametrize("columns", LAWS)
def test_the_filter_knows_the_laws_with_extra_terms_and_other_names(columns) -> None:
    law = LAWS[columns]
    inner = law.removeprefix("return ")
    order = columns[::-1]
    for body in (law, f"return params[0] * ({inner})", f"return {inner} + params[0] * {columns[0]}**2"):
        if "minimum" in law and body != law and "**2" in body:
            continue
        tree = read_body(body, order)
        assert tree is not None
        assert held_out.law_in(tree, len(columns)), body
    spread = re.sub(r"(?<![\w.])\d+\.\d+", "params[0]", law)
    tree = read_body(spread, columns)
    assert tree is not None
    assert held_out.law_in(tree, len(columns))


def test_the_filter_leaves_the_building_blocks() -> None:
    for columns, body in (
        (
            ("x", "v"),
            "return params[0] * np.sin(x) + params[1] * v**3 + params[2] * x**3 + params[3] * x * v",
        ),
        (("t", "x", "v"), "return params[0] * np.sin(t) + params[1] * v**3 + params[2] * x * np.exp(x)"),
        (("b", "s"), "return params[0] * b * s / (params[1] + s)"),
        (("e", "T"), "return (params[0] + params[1] * e**params[2]) * (1 - T**params[3])"),
    ):
        tree = read_body(body, columns)
        assert tree is not None
        assert held_out.law_in(tree, len(columns)) is None


def _laws_in_corpus(bodies_wanted: int, seed: int) -> int:
    """Reads the corpus as text, apart from the filter inside it, by columns' number of the document."""
    found = seen = 0
    for before, bodies, _ in corpus.documents(Random(seed)):
        header = before[0].rsplit("def ", 1)[1]
        names = re.findall(r"(\w+)(?:: [\w.]+)?[,)]", header[: header.index(":\n")])
        for body in bodies:
            seen += 1
            tree = read_body(body, names[:-1], names[-1])
            found += tree is not None and held_out.law_in(tree, len(names) - 1) is not None
        if seen >= bodies_wanted:
            return found
    return found


def test_no_law_among_generated_bodies() -> None:
    assert _laws_in_corpus(3_000, 9) == 0


@pytest.mark.slow
def test_no_canonical_form_of_a_law_among_generated_bodies() -> None:
    """Without the filter: by the package's canonical hash, under every order of the columns."""
    hashes = set()
    for columns, law in LAWS.items():
        free = iter(range(20))
        skeleton = re.sub(
            r"(?<![\w.*])-? ?\d+\.?\d*\*(?!\*)", lambda match, free=free: f"+params[{next(free)}]*", law
        )
        for body in (law, skeleton):
            for order in permutations(columns):
                hashes.add(_hash(parse(body, order, max_params=20)))
    assert len(hashes) > 20
    for before, bodies, _ in islice(corpus.documents(Random(13)), 8_000):
        header = before[0].rsplit("def ", 1)[1]
        names = re.findall(r"(\w+)(?:: [\w.]+)?[,)]", header[: header.index(":\n")])
        for body in bodies:
            assert _hash(parse(body, names[:-1], params_name=names[-1], max_params=20)) not in hashes


def _hash(expression) -> str:
    assert not isinstance(expression, Refusal)
    columns = tuple(f"c{i}" for i in range(len(expression.columns)))
    return canonical_hash(replace(expression, columns=columns))


@pytest.mark.slow
def test_no_law_among_a_hundred_thousand_generated_bodies() -> None:
    assert _laws_in_corpus(100_000, 10) == 0


def _tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def test_tokens_of_prompt_and_completion_meet_between_two_tokens() -> None:
    tokenizer = _tokenizer()
    for before, bodies, _ in islice(corpus.documents(Random(11)), 100):
        pieces = [piece for pair in zip(before, bodies, strict=True) for piece in pair]
        apart = [number for piece in pieces for number in tokenizer.encode(piece).ids]
        assert apart == tokenizer.encode("".join(pieces)).ids
        assert tokenizer.decode(apart) == "".join(pieces)


def test_the_loss_falls_on_bodies_and_the_end() -> None:
    from train import END, rows

    tokenizer = _tokenizer()
    for (ids, codes), (_, bodies, weights) in zip(
        islice(rows(Random(12), tokenizer), 20), corpus.documents(Random(12)), strict=False
    ):
        assert ids[-1] == END
        assert codes[-1] == weights[-1] == corpus.LAST
        taught = tokenizer.decode([n for n, code in zip(ids, codes, strict=True) if code == corpus.LAST])
        assert taught == bodies[-1]


def test_the_files_are_small_and_of_a_shape_that_servers_take() -> None:
    from safetensors import safe_open

    config = json.loads((MODEL / "config.json").read_text())
    assert config["hidden_size"] // config["num_attention_heads"] == config["head_dim"] == 64
    assert (MODEL / "model.safetensors").stat().st_size <= 16 * 2**20
    with safe_open(MODEL / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.bfloat16"}
    assert sum(tensor.numel() for tensor in tensors) <= 8_000_000


@pytest.fixture(scope="module")
def loaded():
    transformers = pytest.importorskip("transformers")
    import torch

    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(MODEL)


def test_a_chat_request_is_the_raw_prompt(loaded) -> None:
    _, tokenizer = loaded
    text = build_prompt(load_spec(ROOT / "specs" / "specification_oscillator1_numpy.txt"), [])
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == text
    assert tokenizer(text)["input_ids"] == _tokenizer().encode(text).ids
    assert tokenizer.eos_token_id == 0
    assert tokenizer.pad_token_id == 1


def test_training_and_transformers_compute_the_same_logits(loaded) -> None:
    import torch
    from model import Llama, Shape
    from safetensors.torch import load_file

    model, _ = loaded
    ours = Llama(Shape())
    weights = load_file(MODEL / "model.safetensors")
    ours.load_state_dict({name.removeprefix("model."): w.float() for name, w in weights.items()})
    ids = torch.randint(2, 2048, (2, 70), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(ids).logits
        assert torch.allclose(ours(ids) @ ours.embed_tokens.weight.T, expected, atol=2e-3)


def _sampled(loaded, prompt: str, n: int, temperature: float) -> list[str]:
    import torch

    model, tokenizer = loaded
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    torch.manual_seed(0)
    out = model.generate(
        ids.repeat(n, 1), do_sample=True, temperature=temperature, top_k=0, max_new_tokens=120
    )
    return tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_samples_are_valid_and_distinct(loaded, problem) -> None:
    spec = load_spec(ROOT / "specs" / f"specification_{problem}_numpy.txt")
    prompt = build_prompt(
        spec, [Version(spec.seed_body, 0.0), Version(random_body(Random(0), spec.columns, 4), 1.0)]
    )
    texts = _sampled(loaded, prompt, 24, 0.8)
    valid = 0
    for text in texts:
        body = read_completion(text, spec.function_name)
        assert not isinstance(body, NoBody)
        valid += not isinstance(parse(body.text, spec.columns), Refusal)
    assert valid >= 20
    assert len(set(texts)) >= 18


def test_names_that_no_list_holds_are_copied(loaded) -> None:
    text = (
        (ROOT / "specs" / "specification_oscillator1_numpy.txt")
        .read_text()
        .replace("x: np.ndarray, v: np.ndarray", "glorp_7: np.ndarray, wuzVex: np.ndarray")
        .replace("        x: ", "        glorp_7: ")
        .replace("        v: ", "        wuzVex: ")
        .replace("params[0] * x + params[1] * v", "params[0] * glorp_7 + params[1] * wuzVex")
        .replace("x, v = inputs", "glorp_7, wuzVex = inputs")
        .replace("equation(x, v, params)", "equation(glorp_7, wuzVex, params)")
    )
    spec = parse_spec(text)
    texts = _sampled(loaded, build_prompt(spec, [Version(spec.seed_body, 0.0)]), 16, 0.8)
    assert sum(not isinstance(parse(text, spec.columns), Refusal) for text in texts) >= 13


@pytest.mark.slow
def test_a_short_training_run_leaves_a_model_that_loads(tmp_path) -> None:
    import transformers

    command = [sys.executable, str(TRAINING / "train.py"), str(tmp_path), "--tokenizer", str(MODEL)]
    command += ["--seconds", "10", "--workers", "1", "--batch_chunks", "1", "--layers", "1", "--hidden", "64"]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.config.num_hidden_layers == 1
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["step"] == 1
