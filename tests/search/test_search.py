"""The search: one archive per seed, whatever the timing; populations that do what they promise."""

import itertools
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import running
from replays import completions, write_replay

from llmsr.archive import Archive, SearchArchive, read_archive
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.proposers.proposer import Completion, ProposerFailure, Replay
from llmsr.sample import is_llm_sample
from llmsr.search.population import BestOfN, Islands, Member, SequentialBestOfN
from llmsr.search.search import Search
from llmsr.settings import SearchSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def problem():
    return load_problem("oscillator1")


@pytest.fixture(scope="module")
def evaluators(problem):
    with Evaluator(problem, workers=1) as one, Evaluator(problem, workers=2) as two:
        yield {1: one, 2: two}


@pytest.fixture(scope="module")
def hard(problem):
    """The problem with a target that no refinement explains, so that records go on; with two evaluators."""

    def target(x, v):
        return np.exp(np.sin(9 * x)) * np.cos(5 * v - x) / (1 + np.abs(np.sin(7 * x * v)))

    splits = {name: replace(split, target=target(*split.inputs.T)) for name, split in problem.splits.items()}
    problem = replace(problem, splits=splits)
    with Evaluator(problem, workers=1) as one, Evaluator(problem, workers=2) as two:
        yield problem, one, two


@pytest.fixture(scope="module")
def replay_file(tmp_path_factory):
    return write_replay(tmp_path_factory.mktemp("replay") / "texts.jsonl", completions(60))


def without_times(samples):
    """Records without what a clock put into them, and without who came first to an equal equation."""
    volatile = ("seconds", "elapsed", "fit_seconds", "cpu_seconds", "evaluations")
    return [{k: v for k, v in s.to_record().items() if k not in volatile} for s in samples]


# without structure search, so that records are there to be refined and every completion is asked for
ALONE = {"structure_seconds": 0, "stop_at_floor": False}
SMALL = {"budget": 60, "islands": 3, "reset_every": 20, "refine": "off", **ALONE}


def run(directory, problem, evaluator, replay_file, earlier=(), **settings):
    with SearchArchive(directory) as archive:
        search = Search(
            problem,
            Replay(replay_file),
            evaluator,
            archive,
            SearchSettings(**SMALL | settings),
            earlier=earlier,
        )
        totals = search.run()
    return totals, read_archive(directory)


def test_the_same_seed_gives_the_same_archive_with_one_worker_and_with_two(
    tmp_path, problem, evaluators, replay_file
):
    _, first = run(tmp_path / "a", problem, evaluators[1], replay_file)
    _, second = run(tmp_path / "b", problem, evaluators[2], replay_file)
    assert len(first) == 60
    assert without_times(first) == without_times(second)


def test_another_seed_gives_other_islands(tmp_path, problem, evaluators, replay_file):
    _, first = run(tmp_path / "a", problem, evaluators[1], replay_file, budget=20)
    _, second = run(tmp_path / "b", problem, evaluators[1], replay_file, budget=20, seed=1)
    assert [s.island for s in first] != [s.island for s in second]


@pytest.mark.parametrize("cut", [0, 1, 4, 7, 30, 59, 60])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, problem, evaluators, replay_file, cut):
    _, whole = run(tmp_path / "whole", problem, evaluators[1], replay_file)
    with Archive(tmp_path / "cut") as archive:
        for sample in whole[:cut]:
            archive.append(sample)
    _, resumed = run(tmp_path / "cut", problem, evaluators[1], replay_file, earlier=whole[:cut])
    assert without_times(resumed) == without_times(whole)


@pytest.mark.parametrize("which", [{"refine": "island"}, {"refine": "run", "refine_patience": 3}])
def test_a_resumed_run_equals_an_uninterrupted_one_refinements_included(tmp_path, hard, replay_file, which):
    problem, one, two = hard
    refining = {"refine_fits": 5, "budget": 40, **which}
    totals, whole = run(tmp_path / "whole", problem, two, replay_file, **refining)
    assert len(whole) == totals.samples + totals.refinements > totals.samples + 10
    refined = [i for i, sample in enumerate(whole) if not is_llm_sample(sample)]
    first, last = refined[0], refined[-1]
    for cut in (first, first + 2, first + 5, last, last + 1, len(whole)):
        with SearchArchive(tmp_path / f"cut{cut}") as archive:
            for sample in whole[:cut]:  # they are written in this order
                archive.append(sample)
        earlier = read_archive(tmp_path / f"cut{cut}")
        again, resumed = run(tmp_path / f"cut{cut}", problem, one, replay_file, earlier=earlier, **refining)
        assert without_times(resumed) == without_times(whole)
        assert again.refinements == totals.refinements


def test_records_of_islands_wait_for_their_turn(tmp_path, hard, replay_file):
    problem, _, two = hard
    refined = {}
    for name, more in {
        "run": {"refine": "run", "refine_patience": 0},
        "paced": {"refine": "run", "refine_patience": 13},
        "island": {"refine": "island"},
    }.items():
        _, samples = run(tmp_path / name, problem, two, replay_file, refine_fits=1, islands=3, **more)
        refined[name] = sorted({s.number for s in samples if not is_llm_sample(s)})
    assert set(refined["run"]) < set(refined["paced"]) < set(refined["island"])
    added = set(refined["paced"]) - set(refined["run"])
    assert all(b - a >= 13 for a, b in itertools.pairwise(refined["paced"]) if b in added)


def test_what_builds_on_a_state_is_refined_only_where_it_beats_the_state(tmp_path, hard, replay_file):
    problem, one, two = hard
    settings = {"search": "puct", "functions_per_prompt": 1, "refine_shown": False, "exploration": 0.3}
    _, samples = run(tmp_path, problem, two, replay_file, refine="island", refine_fits=1, **settings)
    answers = {s.number: s for s in samples if is_llm_sample(s)}
    score = {n: s.evaluation.score for n, s in answers.items()} | {
        0: one.evaluate(problem.spec.seed_body).score
    }
    refined = {s.number for s in samples if not is_llm_sample(s)}
    assert any(parent for n in refined for parent in answers[n].parents)
    assert all(score[n] > score[parent] for n in refined for parent in answers[n].parents)


def test_refinements_are_no_samples(tmp_path, hard, replay_file):
    problem, one, two = hard
    settings = {"refine": "run", "refine_patience": 0, "refine_fits": 4}
    totals, samples = run(tmp_path, problem, two, replay_file, **settings)
    answers = [s for s in samples if is_llm_sample(s)]
    refinements = [s for s in samples if not is_llm_sample(s)]
    assert [s.completion for s in answers] == completions(60)
    assert totals.samples == 60
    assert totals.refinements == len(refinements) > 0
    assert totals.valid == sum(s.evaluation.ok for s in answers)
    assert totals.distinct == len({s.evaluation.canonical for s in answers if s.evaluation.ok})
    assert {s.proposer for s in refinements} == {"refine"}
    assert {s.parents for s in refinements} == {(s.number,) for s in refinements}
    best = one.evaluate(problem.spec.seed_body).score
    records = set()
    for sample in answers:
        if sample.evaluation.ok and sample.evaluation.score > best:
            records.add(sample.number)
            best = sample.evaluation.score
    assert {s.number for s in refinements} == records


def test_the_best_refinement_enters_the_island_of_its_sample(problem, evaluators, tmp_path, replay_file):
    for shown in (True, False):
        with SearchArchive(tmp_path / str(shown)) as archive:
            settings = SearchSettings(
                budget=8,
                islands=3,
                reset_every=0,
                refine="run",
                refine_fits=8,
                refine_shown=shown,
                **ALONE,
            )
            search = Search(problem, Replay(replay_file), evaluators[1], archive, settings)
            search.run()
        refinements = [s for s in read_archive(tmp_path / str(shown)) if s.proposer == "refine"]
        better = {s.evaluation.canonical: s.island for s in refinements}
        entered = {
            (canonical, number)
            for number, island in enumerate(search.population.islands)
            for canonical in island.members
            if canonical in better
        }
        assert all(better[canonical] == number for canonical, number in entered)
        assert bool(entered) == shown


def test_every_completion_is_archived_once_failures_included(tmp_path, problem, evaluators, replay_file):
    totals, samples = run(tmp_path, problem, evaluators[2], replay_file)
    assert [s.completion for s in samples] == completions(60)
    assert [s.number for s in samples] == list(range(1, 61))
    assert totals.valid == sum(s.evaluation.ok for s in samples)
    assert 0 < totals.valid < 60
    assert totals.distinct == len({s.evaluation.canonical for s in samples if s.evaluation.ok})


def test_a_duplicate_is_recognised_and_fitted_once(tmp_path, problem, evaluators):
    texts = [
        "    return params[0]*x + params[1]*np.sin(v)",
        "    a = np.sin(v)\n    return a*params[3] + x*params[2]",
    ]
    replay = write_replay(tmp_path / "texts.jsonl", texts)
    _, (first, second) = run(tmp_path / "run", problem, evaluators[1], replay)
    assert second.duplicate_of == first.number
    assert second.evaluation.train_mse == first.evaluation.train_mse
    assert second.evaluation.evaluations == 0
    assert np.isclose(second.evaluation.params[2], first.evaluation.params[0])


def test_a_perfect_score_is_a_success(tmp_path, evaluators):
    from llmsr.sample import Evaluation
    from llmsr.search.search import member_of

    perfect = Evaluation(
        "ok", params=(1.0,), score=-0.0, train_mse=0.0, nmse={"train": 0.0}, canonical="p", complexity=3
    )
    population = SequentialBestOfN([member(0, 0.5)])
    population.add(member_of(1, perfect), None)
    assert population.draw(np.random.default_rng(0)).members[0].nmse == 0.0


def test_a_run_ends_at_its_error_and_goes_on_from_there(tmp_path, problem, evaluators, replay_file):
    def samples(folder, earlier=(), **settings):
        return run(tmp_path / folder, problem, evaluators[1], replay_file, earlier, **settings)[1]

    whole = samples("whole")
    errors = [s.evaluation.nmse["train"] if s.evaluation.ok else np.inf for s in whole]
    limit = 1.5 * min(errors[:30])  # met in the midst of the run
    first = samples("cut", stop_nmse=limit)
    met = next(i for i, error in enumerate(errors) if error <= limit)
    assert met < len(first) < len(whole)
    assert without_times(first) == without_times(whole)[: len(first)]
    assert samples("cut", first, stop_nmse=limit) == first
    assert without_times(samples("cut", first)) == without_times(whole)


def test_a_run_ends_after_its_seconds_and_goes_on_from_there(tmp_path, problem, evaluators):
    class Slow:
        name, parallel_prompts = "slow", 1

        def propose(self, prompt, count, seed):
            time.sleep(0.3)
            return [Completion(f"return params[0]*x + {seed % 97}*v", 5, "stop")] * count

        def close(self):
            pass

    def samples(earlier=(), **settings):
        settings = SearchSettings(refine="off", budget=400, lookahead=1, **settings)
        with SearchArchive(tmp_path) as archive:
            search = Search(problem, Slow(), evaluators[1], archive, settings, earlier=earlier)
            began = time.monotonic()
            return search.run().samples, time.monotonic() - began, search.ended

    first, seconds, told = samples(seconds=1.5)
    assert 4 <= first <= 24
    assert seconds < 30
    assert told.startswith("ended by --seconds 1.5")
    earlier = list(read_archive(tmp_path))
    assert samples(earlier, seconds=1.5)[0] == first  # the time of the run before counts
    assert samples(earlier, seconds=3)[0] > first


class Failing:
    """A proposer whose server is gone."""

    name = "failing"
    parallel_prompts = 1

    def __init__(self, works: int = 0) -> None:
        self.works = works

    def propose(self, prompt, n, seed):
        self.works -= 1
        if self.works < 0:
            raise ProposerFailure("server", "the server answered 500")
        return [Completion("    return params[0]*x", 5, "stop")] * n

    def close(self):
        pass


def test_a_dead_proposer_ends_the_search_with_a_sentence_and_keeps_the_samples(tmp_path, problem, evaluators):
    from llmsr.errors import UserError

    with Archive(tmp_path) as archive:
        search = Search(
            problem, Failing(works=3), evaluators[1], archive, SearchSettings(budget=100, **ALONE)
        )
        with pytest.raises(UserError, match=r"5 prompts in a row.*500.*--resume"):
            search.run()
    assert len(read_archive(tmp_path)) == 12


# populations


def member(number, nmse, canonical=None, complexity=5):
    return Member(number, f"return {number}", canonical or str(number), -nmse, nmse, complexity, (1.0,))


def islands(**settings):
    return Islands([member(0, 1.0)], **{"count": 4, "reset_every": 0} | settings)


def draws(population, count=400, seed=0):
    generator = np.random.default_rng(seed)
    return [population.draw(generator) for _ in range(count)]


def test_islands_are_isolated():
    population = islands()
    population.add(member(1, 0.1), 2)
    shown = {(d.island, m.sample) for d in draws(population) for m in d.members}
    assert (2, 1) in shown
    assert {i for i, sample in shown if sample == 1} == {2}


def test_a_prompt_shows_distinct_members_worst_first():
    population = islands(count=1)
    for number in range(1, 6):
        population.add(member(number, 10.0**-number), 0)
    for draw in draws(population):
        numbers = [m.sample for m in draw.members]
        assert len(set(numbers)) == 2
        assert numbers == sorted(numbers)


def test_an_equal_equation_is_taken_in_once():
    population = islands(count=1)
    population.add(member(1, 0.1, canonical="same"), 0)
    population.add(member(2, 0.1, canonical="same"), 0)
    assert 2 not in {m.sample for d in draws(population) for m in d.members}


def preference(rule, scale):
    """How often a perfect member is shown rather than a constant-like one, target variance `scale`."""
    population = Islands(
        [Member(0, "", "bad", -scale, 1.0, 5, ())],
        count=1,
        shown=1,
        rule=rule,
        temperature=1.0,
        reset_every=0,
    )
    population.add(Member(1, "", "good", -1e-12 * scale, 1e-12, 5, ()), 0)
    return np.mean([d.members[0].sample == 1 for d in draws(population, 2000)])


def test_selection_prefers_the_better_whatever_the_units():
    for rule in ("rank", "quality"):
        assert preference(rule, 1e-3) == preference(rule, 1e3) > 0.7


def test_llm_srs_rule_has_almost_no_pressure_on_small_targets():
    assert abs(preference("score", 0.005) - 0.5) < 0.05


def test_reset_refills_the_weaker_half_from_the_stronger():
    population = islands(reset_every=10)
    for island, nmse in enumerate([1e-1, 1e-2, 1e-3, 1e-4]):
        population.add(member(island + 1, nmse), island)
    population.end_of_sample(9)
    assert {m.sample for d in draws(population) for m in d.members} == {0, 1, 2, 3, 4}
    population.end_of_sample(10)
    assert {m.sample for d in draws(population) for m in d.members} <= {0, 3, 4}


def test_best_of_n_shows_the_seed_only_and_sequential_the_best():
    independent, sequential = BestOfN([member(0, 1.0)]), SequentialBestOfN([member(0, 1.0)])
    for population in (independent, sequential):
        population.add(member(1, 0.1), None)
        population.add(member(2, 0.2), None)
    assert {m.sample for d in draws(independent, 5) for m in d.members} == {0}
    assert {m.sample for d in draws(sequential, 5) for m in d.members} == {1}


# a whole process


def command(run_dir, replay_file, *more):
    return [
        sys.executable,
        "main.py",
        *("--proposer", "replay", "--replay_path", str(replay_file), "--log_path", str(run_dir)),
        *("--workers", "1", "--structure_seconds", "0", "--stop_at_floor", "false", *more),
    ]


@pytest.mark.slow
def test_a_killed_search_resumes_as_if_it_had_not_stopped(tmp_path, replay_file):
    subprocess.run(command(tmp_path / "whole", replay_file), cwd=ROOT, check=True, capture_output=True)
    whole = without_times(read_archive(tmp_path / "whole"))
    generator = np.random.default_rng(0)
    resume: list[str] = []
    for _ in range(4):
        process = subprocess.Popen(
            command(tmp_path / "killed", replay_file, *resume),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(float(generator.uniform(0.5, 3.0)))
        process.kill()
        process.wait()
        resume = ["--resume"] if (tmp_path / "killed" / "archive").exists() else []
    subprocess.run(
        command(tmp_path / "killed", replay_file, *resume), cwd=ROOT, check=True, capture_output=True
    )
    assert without_times(read_archive(tmp_path / "killed")) == whole
    assert len(list((tmp_path / "killed" / "samples").glob("samples_*.json"))) == 60


@pytest.mark.slow
def test_the_embedded_model_gives_the_same_archive_twice(tmp_path):
    archives = []
    for name in ("first", "second"):
        argv = ["--budget", "48", "--workers", "1", "--seed", "3", "--log_path", str(tmp_path / name)]
        subprocess.run([sys.executable, "main.py", *argv], cwd=ROOT, check=True, capture_output=True)
        archives.append(read_archive(tmp_path / name))
    assert sum(map(is_llm_sample, archives[0])) == 48  # refinements, on by default, are archived beside them
    assert without_times(archives[0]) == without_times(archives[1])


# a supervisor asks again while the results are being written
@pytest.mark.parametrize("requests", [[signal.SIGINT], [signal.SIGTERM] * 8])
def test_a_request_to_end_ends_with_the_results_so_far(tmp_path, requests):
    endless = write_replay(tmp_path / "texts.jsonl", completions(20_000))
    with running(command(tmp_path / "run", endless, "--budget", "20000", "--json"), cwd=ROOT) as process:
        end = time.monotonic() + 60
        while time.monotonic() < end and not list((tmp_path / "run" / "samples").glob("samples_1?.json")):
            time.sleep(0.1)
        for request in requests:
            process.send_signal(request)
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"python -m llmsr run --resume --log_path {tmp_path / 'run'}" in err
    assert " left | " in err
    result = json.loads(out)
    assert result["samples"] == sum(map(is_llm_sample, read_archive(tmp_path / "run"))) >= 10
    assert result["best"]["nmse"]["test_ood"] is not None


@pytest.mark.parametrize(
    ("lookahead", "groups", "shown"), [(1, [1] * 5, [0, 1, 2, 3, 4]), (2, [2, 2, 1], [0, 0, 2, 2, 4])]
)
def test_prompts_that_are_decoded_together_keep_the_lookahead(
    problem, evaluators, tmp_path, lookahead, groups, shown
):
    terms = ["x", "v", "np.sin(x)", "v**3", "x**3", "x*v", "x*np.cos(x)"]

    class Better:
        """Every prompt's answer has one more term than the one before."""

        name, parallel_prompts, batch_prompts = "better", 1, 4

        def __init__(self):
            self.sizes = []

        def propose(self, prompt, n, seed):
            return self.propose_many([prompt], n, [seed])[0]

        def close(self):
            pass

        def propose_many(self, prompts, n, seeds):
            first = sum(self.sizes)
            self.sizes = [*self.sizes, len(prompts)]
            answers = []
            for count in range(first + 1, first + len(prompts) + 1):
                equation = " + ".join(f"params[{i}]*{term}" for i, term in enumerate(terms[: count + 2]))
                answers.append([Completion(f"return {equation}", 9, "stop")])
            return answers

    proposer = Better()
    settings = SearchSettings(
        search="sequential_best_of_n", budget=5, samples_per_prompt=1, lookahead=lookahead, refine="off"
    )
    with SearchArchive(tmp_path) as archive:
        Search(problem, proposer, evaluators[1], archive, settings).run()
    assert proposer.sizes == groups
    assert [sample.parents for sample in read_archive(tmp_path)] == [(number,) for number in shown]
