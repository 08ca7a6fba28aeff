"""Top: the best of each structure, few, drawn by rank, unlike in size."""

import numpy as np
import pytest

from llmsr.problem.loading import load_problem
from llmsr.search.population import Member, Top, structure


@pytest.fixture(scope="module")
def spec():
    return load_problem("oscillator1").spec


def member(body, nmse, complexity=3, sample=1):
    return Member(sample, f"    return {body}", body, -nmse, nmse, complexity, ())


def test_of_one_structure_the_best_alone_is_kept(spec):
    top = Top([member("params[0] * x**2", 0.5)], spec)
    top.add(member("params[0] * x**2.5", 0.3), None)
    top.add(member("params[0] * x**2.25", 0.4), None)
    top.add(member("params[0] * np.sin(x)", 0.9), None)
    assert [m.canonical for m in top.members] == ["params[0] * x**2.5", "params[0] * np.sin(x)"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("params[0] * x**2", "params[3] * x**3", True),
        ("params[0] * np.sin(2 * x)", "params[0] * np.sin(params[1] * x)", True),
        ("params[0] * x + params[1] * v", "v * params[0] + x * params[1]", True),
        ("params[0] * x", "params[0] * v", False),
        ("params[0] * np.sin(x)", "params[0] * np.cos(x)", False),
    ],
)
def test_structure_forgets_numbers_and_spelling_only(spec, one, other, same):
    assert (structure(spec, f"    return {one}") == structure(spec, f"    return {other}")) is same


def test_what_cannot_be_read_has_no_structure(spec):
    assert structure(spec, "    return open('x')") == ""


def test_only_the_best_stay(spec):
    top = Top([], spec, size=3)
    forms = ("np.sin(x)", "np.cos(x)", "np.exp(x)", "np.tanh(x)", "np.log(x)")
    for place, form in enumerate(forms):
        top.add(member(f"params[0] * {form}", 1 / (place + 1)), None)
    assert [m.nmse for m in top.members] == [1 / 5, 1 / 4, 1 / 3]


def test_a_prompt_shows_different_sizes_where_there_are_some(spec):
    forms = (("np.sin(x)", 3), ("np.cos(x)", 3), ("np.exp(x)", 3), ("x * v", 7))
    top = Top([member(f"params[0] * {f}", 0.1 * i, size) for i, (f, size) in enumerate(forms, 1)], spec)
    for seed in range(20):
        draw = top.draw(np.random.default_rng(seed))
        assert {m.complexity for m in draw.members} == {3, 7}
        assert draw.members[0].score <= draw.members[1].score


def test_the_best_is_shown_most_often(spec):
    forms = ("np.sin(x)", "np.cos(x)", "np.exp(x)", "np.tanh(x)", "np.log(x)", "np.sqrt(x)")
    top = Top([member(f"params[0] * {f}", 0.1 * i, i) for i, f in enumerate(forms, 1)], spec, shown=1)
    counts = dict.fromkeys(forms, 0)
    for seed in range(200):
        counts[top.draw(np.random.default_rng(seed)).members[0].body.split("* ")[1]] += 1
    assert max(counts, key=counts.get) == "np.sin(x)"
    assert sum(count > 0 for count in counts.values()) == len(forms)
