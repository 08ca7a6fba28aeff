"""What prompts tell beside the versions: true lines, none by default, the same on resume."""

import re

import numpy as np
import pytest

from llmsr.context import CONTEXTS, WIDEST, Known, notes
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.columns import Quantity, spec_text
from llmsr.problem.loading import Problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.split import Split
from llmsr.prompt import Version, build_prompt
from llmsr.proposers.proposer import Completion
from llmsr.search.search import Search
from llmsr.settings import SearchSettings


@pytest.fixture(scope="module")
def problem():
    text = spec_text([Quantity("t", "time", "s"), Quantity("u")], Quantity("y", "height", "m"))
    inputs = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    target = inputs[:, 0] + np.where(inputs[:, 0] > 0.5, 3.0, 0.0)
    return Problem("step", parse_spec(text), "y", {"train": Split(inputs, target)})


def known(problem, *versions, refusals=()):
    return Known(problem, [f"equation_v{i}" for i in range(len(versions))], versions, refusals)


def test_the_default_prompt_has_no_notes(problem):
    versions = [Version("return params[0] * t", -1.0, 1, (1.0,) * 10)]
    assert notes(SearchSettings().kinds, known(problem, *versions)) == ()
    assert "# " not in build_prompt(problem.spec, versions).split("PRAMS_INIT")[-1]


def test_notes_stand_as_comments_between_preface_and_versions(problem):
    versions = [Version("return params[0] * t", -1.0, 1, (1.0,) * 10)]
    plain = build_prompt(problem.spec, versions)
    noted = build_prompt(problem.spec, versions, ("one", "two"))
    before, after = noted.split("# one\n# two\n")
    assert plain.startswith(before.rstrip())
    assert plain.endswith(after.lstrip())
    assert plain == before + after.lstrip()


def test_scores_are_the_mean_squared_error_over_the_variance(problem):
    variance = np.var(problem.train.target)
    (line,) = notes(["scores"], known(problem, Version("return t", -0.25 * variance)))
    assert float(re.search(r"error (\S+) of", line)[1]) == 0.25


def test_constants_names_what_the_body_uses(problem):
    version = Version("return params[3] * t + params[1]", -1.0, 1, tuple(range(10)))
    (line,) = notes(["constants"], known(problem, version))
    assert line == "equation_v0 fitted: params[1] = 1, params[3] = 3"


def test_residuals_point_at_the_step(problem):
    poor = Version("return params[0] * u", -9.0, 1, (0.0,) * 10)
    good = Version("return params[0] * t", -2.0, 2, (1.0,) * 10)
    lines = notes(["residuals"], known(problem, poor, good))
    assert len(lines) == 1
    low = float(re.search(r"equation_v1: 100% .* lies at t from (\S+) to", lines[0])[1])
    assert 0.4 < low < 0.6
    assert "below the data" in lines[0]


@pytest.mark.parametrize(
    "version",
    [
        Version("return params[0] * t + params[1] * np.where(t > 0.5, 1.0, 0.0)", 0.0, 1, (1.0, 3.0)),
        Version("return np.log(params[0] * t)", -1.0, 1, (1.0,)),
        Version("return equation_v7(t, u, params)", -1.0, 1, (1.0,)),
        Version("return params[0] * t", -1.0),
    ],
)
def test_residuals_say_nothing_of_a_perfect_a_broken_or_an_unread_equation(problem, version):
    assert notes(["residuals"], known(problem, version)) == ()


def test_columns_tell_ranges_meanings_and_units(problem):
    lines = notes(["columns"], known(problem))
    assert lines[0].startswith("t (time in s): -0.99")
    assert lines[1].startswith("u: ")
    assert lines[2].startswith("to be found, y: ")


def test_refusals_are_counted_most_frequent_first(problem):
    lines = notes(["refusals"], known(problem, refusals=["a", "mixes rows", "mixes rows"]))
    assert lines == ("2 recent answers were refused: mixes rows", "1 recent answer was refused: a")


def test_a_note_is_one_short_printable_line(problem):
    hostile = 'x"""\ndef equation_v9(x):\n\x1b[31m' + "long " * 100
    for line in notes(tuple(CONTEXTS), known(problem, refusals=[hostile])):
        assert line.isprintable()
        assert len(line) <= WIDEST


def test_context_is_read_in_a_fixed_order_and_unknown_words_are_named():
    assert SearchSettings(context="refusals, scores").kinds == ("scores", "refusals")
    assert SearchSettings(context="none").kinds == SearchSettings(context="").kinds == ()
    with pytest.raises(UserError, match="did you mean residuals"):
        SearchSettings(context="residual")
    with pytest.raises(UserError, match="stands alone"):
        SearchSettings(context="none,scores")


class Listening:
    """A proposer that keeps the prompts it is asked and answers by their number."""

    name = "listening"
    parallel_prompts = 1

    def __init__(self):
        self.prompts = []

    def propose(self, prompt, n, seed):
        self.prompts.append(prompt.text)
        bodies = ["return np.gradient(t)", f"return params[0] * t + {seed % 7} * u"]
        return [Completion(f"    {bodies[i % 2]}\n", 5, "stop") for i in range(n)]

    def close(self):
        pass


def searched(problem, evaluator, earlier=(), **settings):
    samples, proposer = list(earlier), Listening()

    class Kept:
        append = staticmethod(samples.append)

    chosen = SearchSettings(
        **{"budget": 12, "samples_per_prompt": 2, "islands": 2, "lookahead": 1, "structure_seconds": 0},
        **settings,
    )
    Search(problem, proposer, evaluator, Kept(), chosen, earlier=earlier).run()
    return samples, proposer.prompts


def test_a_search_tells_what_it_is_asked_to_tell_and_again_on_resume(problem):
    with Evaluator(problem, workers=1) as evaluator:
        samples, prompts = searched(problem, evaluator, context="scores,constants,residuals,columns,refusals")
        assert "# t (time in s)" in prompts[0]
        assert "refused" not in prompts[0]
        assert re.search(r"# \d recent answers were refused: .*gradient", prompts[-1])
        assert all("# equation_v0: mean squared error" in prompt for prompt in prompts)
        context = "scores,constants,residuals,columns,refusals"
        _, resumed = searched(problem, evaluator, samples[:6], context=context)
        assert resumed == prompts[-len(resumed) :]
        assert len(resumed) in (3, 4)
        _, plain = searched(problem, evaluator)
        assert not any(re.search(r"^# .*(error|refused|median)", prompt, re.MULTILINE) for prompt in plain)
