"""Refinement: each edit on an equation made by hand, and the refiner's promises."""

from dataclasses import replace

import numpy as np
import pytest

from llmsr.evaluator import Evaluator
from llmsr.expression import parse
from llmsr.expression.canonical import canonical_hash, canonicalize
from llmsr.expression.graph import Expression, complexity, evaluate
from llmsr.fitting import fit
from llmsr.problem.loading import load_problem
from llmsr.problem.split import Split
from llmsr.refinement.atoms import UNARY
from llmsr.refinement.edits import bound, drop, fix, free
from llmsr.refinement.linearization import NEW, Linearization
from llmsr.refinement.proposals import proposals
from llmsr.refinement.refiner import Refiner
from llmsr.refinement.rows import NumberedGraph, Rows
from llmsr.refinement.terms import own_terms, regress, terms_over
from llmsr.refinement.unshared import Unshared
from llmsr.sample import Sample

LAW = "0.8*np.sin(x) - 0.5*v**3 - 0.2*x**3 - 0.5*x*v - x*np.cos(x)"
SKELETON = "params[0]*np.sin(x) - params[1]*v**3 - params[2]*x**3 - params[3]*x*v - params[4]*x*np.cos(x)"


@pytest.fixture(scope="module")
def problem():
    return load_problem("oscillator1")


@pytest.fixture(scope="module")
def evaluators(problem):
    with Evaluator(problem, workers=1) as one, Evaluator(problem, workers=2) as two:
        yield {1: one, 2: two}


def expression(text, columns=("x", "v")):
    parsed = parse(f"return {text}", columns, params_name="params", max_params=10)
    return canonicalize(Expression(parsed.nodes, columns))


def linearized(problem, text, max_params=10):
    """The text's equation, its constants fitted, on the rows of the problem."""
    form = expression(text)
    params = fit(form.expression, problem).params
    return at(form.expression, params, Rows.of(problem.train), max_params)


def at(e, params, rows, max_params=10):
    return Linearization(Unshared.of(e), dict(enumerate(params)), rows, max_params)


def rows_of(function, **columns):
    inputs = np.column_stack(list(columns.values()))
    target = function(*columns.values())
    return Rows(inputs, target, float(np.sum((target - target.mean()) ** 2)))


def forms(candidates):
    return {canonical_hash(candidate.expression) for candidate in candidates}


def form(text, columns=("x", "v")):
    return canonical_hash(expression(text, columns).expression)


# edits


def test_a_spurious_term_is_dropped_first(problem):
    found = drop(linearized(problem, f"{SKELETON} + params[5]*np.exp(v)"))
    assert found[0].predicted_nmse < 1e-20
    # the coefficient of x*cos(x) is 1 in the law, so that it may go too
    assert {canonical_hash(c.expression) for c in found[:2]} == {
        form(SKELETON),
        form(SKELETON.replace("params[4]*", "")),
    }


def test_two_spurious_terms_are_dropped_at_once(problem):
    found = drop(linearized(problem, f"{SKELETON} + params[5]*np.exp(v) + params[6]*np.tanh(x*v)"))
    assert form(SKELETON) in forms(found)


def test_a_factor_that_does_not_matter_is_dropped():
    x = np.linspace(0.1, 3, 200)
    rows = rows_of(lambda x: 2 * np.sin(x), x=x)
    e = expression("params[0]*np.sin(x)*(1 + params[1]*x)", ("x",)).expression
    found = drop(at(e, (2.0, 1e-9), rows))
    assert canonical_hash(found[0].expression) == form("params[0]*np.sin(x)", ("x",))


def test_a_function_gives_way_to_one_that_looks_like_it():
    x = np.linspace(-3, 3, 200)
    rows = rows_of(lambda x: 2 * np.tanh(x), x=x)
    e = expression("params[0]*np.sin(x)", ("x",)).expression
    best = regress(at(e, (1.0,), rows), terms_over(rows))[0]
    assert canonical_hash(best.expression) == form("params[0]*np.tanh(x)", ("x",))


@pytest.mark.parametrize(
    ("low", "power", "expected"),
    [
        (0.1, lambda x: x**2.3, "params[0]*x**params[1]"),
        (-3.0, lambda x: np.abs(x) ** 2.3, "params[0]*np.abs(x)**params[1]"),
    ],
)
def test_an_exponent_is_freed(low, power, expected):
    x = np.linspace(low, 3, 200)
    rows = rows_of(power, x=x)
    e = expression("params[0]*x**2", ("x",)).expression
    found = free(at(e, (1.0,), rows, 2))
    assert form(expected, ("x",)) in forms(found)
    assert not free(at(e, (1.0,), rows, 1)), "there is no parameter left"


def test_an_odd_power_keeps_the_sign_of_its_base():
    rows = rows_of(lambda x: x * np.abs(x) ** 1.7, x=np.linspace(-3, 3, 200))
    e = expression("params[0]*x**3", ("x",)).expression
    found = free(at(e, (1.0,), rows, 2))
    assert form("params[0]*x*np.abs(x)**params[1]", ("x",)) in forms(found)


def test_constants_near_round_numbers_are_fixed_one_by_one_and_together():
    x = np.linspace(0.1, 3, 200)
    rows = rows_of(lambda x: np.sin(x) + 0.7 * x**1.5, x=x)
    e = expression("params[0]*np.sin(params[1]*x) + params[2]*x**params[3]", ("x",))
    start = [1 + 1e-9, 1 - 1e-9, 0.7, 1.5 + 1e-9]
    found = fix(at(e.expression, [start[p] for p in e.params], rows))
    assert form("np.sin(x) + params[0]*x**1.5", ("x",)) in forms(found)
    assert form("params[0]*np.sin(x) + params[1]*x**params[2]", ("x",)) in forms(found)


def test_a_limit_is_found_in_the_column_that_has_it_with_its_slope():
    rng = np.random.default_rng(0)
    rows = rows_of(
        lambda x, v: np.minimum(8 * x, 1 - 0.5 * v), x=rng.uniform(0, 1, 300), v=rng.uniform(0, 1, 300)
    )
    e = expression("params[0] + params[1]*v").expression
    here = at(e, (0.9, -0.4), rows)
    best = bound(here)[0]
    assert canonical_hash(best.expression) == form("np.minimum(params[2]*x, params[0] + params[1]*v)")
    assert best.start[NEW] == pytest.approx(8, rel=0.2)
    assert best.predicted_nmse < 0.1 * here.nmse
    assert not bound(at(e, (0.9, -0.4), rows, 2)), "there is no parameter left"


def test_equal_constants_are_tied(problem):
    tied = "params[0]*np.sin(x) - params[1]*(v**3 + x*v) - params[2]*x**3 - params[3]*x*np.cos(x)"
    untied = "params[0]*np.sin(x) - params[1]*v**3 - params[1]*x*v - params[2]*x**3 - params[3]*x*np.cos(x)"
    assert forms(fix(linearized(problem, SKELETON))) & {form(tied), form(untied)}


# new terms


def test_the_missing_term_is_found_and_reaches_the_law(problem):
    here = linearized(problem, SKELETON.replace("params[0]*np.sin(x) ", ""))
    law = regress(here, terms_over(here.rows))[0]
    assert canonical_hash(law.expression) == form(SKELETON.replace(" - ", " + "))
    assert law.predicted_nmse < 1e-20 < here.nmse
    reached = fit(law.expression, problem)
    assert reached.loss / np.var(problem.train.target) < 1e-25


def test_a_factor_is_found_inside_a_product():
    x, v = np.random.default_rng(0).uniform(0.5, 3, (2, 256))
    rows = rows_of(lambda x, v: 2 * np.exp(-x) * (1 + 0.3 * np.sin(v)), x=x, v=v)
    e = expression("params[0]*np.exp(-x)").expression
    best = regress(at(e, (2.0,), rows), terms_over(rows))[0]
    assert canonical_hash(best.expression) == form("params[0]*np.exp(-x) + params[1]*np.exp(-x)*np.sin(v)")


def test_no_candidate_has_more_constants_than_the_spec_allows(problem):
    for most in (5, 6):
        here = linearized(problem, SKELETON, most)
        found = [*regress(here, terms_over(here.rows)), *free(here)]
        assert found
        assert all(len(canonicalize(c.expression).params) <= most for c in found)


def test_terms_that_only_together_explain_are_found_by_regression(problem):
    text = "params[0]*x + params[1]*x**3 + params[2]*x**5 + params[3]*v**3 + params[4]*x*v"
    here = linearized(problem, text)
    found = regress(here, terms_over(here.rows))
    assert found[0].predicted_nmse < 1e-25
    assert fit(found[0].expression, problem).loss / np.var(problem.train.target) < 1e-25


def test_products_of_sums_are_multiplied_out():
    rows = rows_of(lambda x, v: x * v, x=np.linspace(1, 2, 50), v=np.linspace(1, 3, 50) ** 2)
    e = expression("x*(params[0] + np.sin(v))/v - 3*x").expression
    terms = own_terms(at(e, (2.0,), rows))
    x, v = rows.inputs.T
    for wanted in (x / v, x * np.sin(v) / v, x):
        assert any(np.allclose(t.values / wanted, (t.values / wanted)[0]) for t in terms)
    assert len(terms) == 3


def test_a_terms_numbers_and_size_are_those_of_its_expression():
    rows = rows_of(lambda x: x, x=np.linspace(0.2, 2, 9))
    for name, formula in UNARY.items():
        graph = NumberedGraph(rows)
        root = graph.made(formula, u=graph.column(0))
        made = graph.expression(root, ("x",))
        assert np.allclose(evaluate(made, rows.inputs, ()), graph.values[root]), name
    for term in terms_over(rows):
        assert np.allclose(evaluate(term.expression, rows.inputs, term.start), term.values)
        assert complexity(term.expression) == term.size


def test_the_promise_of_a_linear_edit_is_what_the_fit_reaches(problem):
    here = linearized(problem, "params[0]*x + params[1]*v**3")
    for candidate in regress(here, terms_over(here.rows))[:3]:
        there = here.moved_to(candidate)
        assert there.nmse == pytest.approx(candidate.predicted_nmse, rel=1e-3, abs=1e-28)


# the refiner


def test_nothing_is_proposed_for_what_cannot_be_read_or_told(problem):
    assert proposals(problem, "return np.gradient(v)", (1.0,) * 10, 8) == []
    assert proposals(problem, "return x/0", (1.0,) * 10, 8) == []


# the rows that are looked at


@pytest.mark.parametrize(("outer", "inner"), [(512, 50), (256, 100), (160, 160)])
def test_rows_of_a_grid_show_the_values_of_every_column(outer, inner):
    a, b = np.meshgrid(np.linspace(0, 1, outer), np.linspace(-2, 2, inner), indexing="ij")
    for columns in ((a, b), (b, a)):
        inputs = np.column_stack([c.ravel() for c in columns])
        rows = Rows.of(Split(inputs, inputs.sum(axis=1)))
        assert len(rows.target) == 256
        for i in range(2):
            assert len(np.unique(rows.inputs[:, i])) >= min(len(np.unique(inputs[:, i])), 256) / 2


@pytest.mark.parametrize("levels", [2, 7, 200, 0])
def test_rows_without_an_order_are_taken_at_a_fixed_stride(levels):
    random = np.random.default_rng(1)
    for count in (100, 256, 1000, 25600):
        inputs = random.normal(size=(count, 3))
        if levels:
            inputs[:, 1] = random.integers(levels, size=count)
        rows = Rows.of(Split(inputs, inputs.sum(axis=1)))
        kept = min(count, 256)
        assert np.array_equal(rows.inputs, inputs[np.arange(kept) * count // kept])


@pytest.mark.parametrize("name", ["oscillator1", "oscillator2", "bactgrow", "stressstrain"])
def test_rows_of_the_benchmarks_problems_are_taken_at_a_fixed_stride(name):
    train = load_problem(name).train
    assert np.array_equal(Rows.of(train).target, train.target[np.arange(256) * len(train) // 256])


# what cannot be refined


def with_rows(problem, inputs, target):
    return replace(problem, splits={"train": Split(np.ascontiguousarray(inputs), target)})


@pytest.mark.parametrize("text", ["params[0]*x", "params[0]*np.sin(x) + v", "np.exp(params[0]*x*v)"])
def test_columns_that_do_not_vary_bring_no_terms_and_no_fault(problem, text):
    target = np.random.default_rng(0).normal(size=60)
    constant = with_rows(problem, np.full((60, 2), 3.0), target)
    moves = {p.move for p in proposals(constant, f"return {text}", (1.0,) * 10, 16)}
    assert "regress" not in moves


def test_nothing_is_proposed_for_targets_whose_squares_vanish(problem):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(60, 2))
    for target in (1e-290 * random.normal(size=60), np.full(60, 2.0), 1e290 * random.normal(size=60)):
        rows = with_rows(problem, inputs, target)
        assert proposals(rows, "return params[0]*np.sin(x)", (1.0,) * 10, 8) == []


def test_a_proposal_that_raises_costs_its_refinement_alone(evaluators, caplog):
    sample = sample_of(evaluators[1], "params[0]*x")
    broken = replace(sample, evaluation=replace(sample.evaluation, params=()))
    assert Refiner(evaluators[1]).refine(broken) == []
    assert "not refined further: IndexError" in caplog.text


def sample_of(evaluator, text):
    return Sample(7, f"return {text}", evaluator.evaluate(f"return {text}"), prompt=3, island=1, tokens=20)


def test_the_law_is_reached_from_a_linear_equation(evaluators):
    sample = sample_of(evaluators[1], "params[0]*x + params[1]*v")
    refiner = Refiner(evaluators[1])
    found = refiner.refine(sample)
    best = refiner.best(sample, found)
    assert best.evaluation.nmse["train"] < 1e-25
    assert best.evaluation.nmse["test_ood"] < 1e-20
    assert 0 < len(found) <= refiner.fits
    assert {(r.number, r.parents, r.proposer, r.island, r.prompt, r.tokens) for r in found} == {
        (7, (7,), "refine", 1, 3, 0)
    }
    assert len({r.evaluation.canonical for r in found} | {sample.evaluation.canonical}) == len(found) + 1


def test_the_other_oscillators_law_is_reached_too():
    with Evaluator(load_problem("oscillator2"), workers=1) as evaluator:
        sample = sample_of(evaluator, "params[0]*t + params[1]*x + params[2]*v")
        refiner = Refiner(evaluator)
        best = refiner.best(sample, refiner.refine(sample))
    assert best.evaluation.nmse["test_ood"] < 1e-25


def test_columns_that_need_other_names_in_the_source_are_refined_alike(problem):
    named = replace(problem, spec=replace(problem.spec, columns=("θ", "ω"), params_name="p"))
    with Evaluator(named, workers=1) as evaluator:
        found = Refiner(evaluator).refine(sample_of(evaluator, "p[0]*θ + p[1]*ω"))
    assert min(r.evaluation.nmse["train"] for r in found if r.evaluation.ok) < 1e-25


def test_refinement_depends_on_the_sample_alone(evaluators):
    bodies = []
    for workers in (1, 2, 1):
        sample = sample_of(evaluators[workers], "params[0]*x*np.exp(params[1]*v)")
        found = Refiner(evaluators[workers], fits=24).refine(sample)
        bodies.append([(r.completion, r.evaluation.params) for r in found])
    assert len(bodies[0]) == 24
    assert bodies[0] == bodies[1] == bodies[2]


def test_a_failure_is_not_refined_and_no_worse_equation_is_the_best(evaluators):
    refiner = Refiner(evaluators[1], fits=4)
    assert refiner.refine(sample_of(evaluators[1], "x *")) == []
    law = sample_of(evaluators[1], LAW)
    assert refiner.best(law, [sample_of(evaluators[1], "params[0]*x")]) is None
