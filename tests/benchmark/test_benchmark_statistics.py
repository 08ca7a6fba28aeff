"""Statistics on numbers made by hand: censoring, ratios, paired tests, Holm's correction."""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmsr.benchmark.results import (
    CEILING,
    Cost,
    compare_arms,
    holm,
    log_nmse,
    median_cost,
    nmse_spread,
    signed_rank,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from claim import cost_ratio, restricted_means, verdict


def reached(*spent):
    return [Cost(float(s), True) for s in spent]


def censored(*spent):
    return [Cost(float(s), False) for s in spent]


def test_half_of_the_runs_make_a_median_and_fewer_make_none():
    assert median_cost(reached(10, 30, 20)) == 20
    assert median_cost(reached(10, 20) + censored(1000)) == 20
    assert median_cost(reached(10) + censored(1000, 1000)) is None
    assert median_cost(censored(1000)) is None


def test_a_run_that_was_cut_early_does_not_count_as_one_that_arrived():
    # censored at 5, before anybody arrives: it leaves the set at risk and says nothing more
    assert median_cost(censored(5) + reached(10, 20, 30)) == 20
    # a plain median over what was spent would say 10
    assert median_cost(censored(5, 6) + reached(10) + censored(50)) == 10
    assert median_cost(censored(5, 6) + reached(10) + censored(50, 50)) is None


def test_a_ratio_is_that_of_restricted_means():
    arm = {"p": reached(100, 100)}
    base = {"p": reached(300) + censored(1000)}
    assert restricted_means(arm["p"], base["p"]) == (100, 650)
    found = cost_ratio(arm, base)
    assert found.ratio == pytest.approx(6.5)
    assert found.reached == (2, 1)
    assert found.interval[0] <= 6.5 <= found.interval[1]


def test_resamples_in_which_nobody_arrives_say_nothing_about_a_ratio():
    arm, base = reached(1) + censored(9), reached(3) + censored(9)
    found = cost_ratio({"p": arm}, {"p": base})
    assert found.ratio == pytest.approx(6 / 5)
    assert found.interval == (pytest.approx(6 / 5), pytest.approx(3.0))
    # beside a problem where all arrive, that one alone is left of such resamples
    sure = {"p": arm, "q": reached(4, 4)}, {"p": base, "q": reached(8, 8)}
    assert cost_ratio(*sure).interval == (pytest.approx((6 / 5 * 2) ** 0.5), pytest.approx(6**0.5))


def test_runs_that_end_at_different_costs_are_compared_up_to_the_earliest_end():
    # the arm's runs were cut at 50: what the baseline did later cannot be held against it
    assert restricted_means(censored(50, 50), reached(40, 400)) == (50, 45)


def test_a_problem_that_nobody_solves_says_nothing():
    assert cost_ratio({"p": censored(10, 10)}, {"p": censored(10, 10)}) is None
    both = cost_ratio(
        {"p": censored(10, 10), "q": reached(5, 5)}, {"p": censored(10, 10), "q": reached(10, 10)}
    )
    assert (both.problems, both.ratio) == (1, pytest.approx(2.0))


def test_the_interval_narrows_where_all_seeds_agree():
    same = cost_ratio({"p": reached(*[10] * 5)}, {"p": reached(*[40] * 5)})
    assert same.interval == (pytest.approx(4), pytest.approx(4))
    spread = cost_ratio({"p": reached(1, 5, 10, 20, 40)}, {"p": reached(*[40] * 5)})
    assert spread.interval[1] / spread.interval[0] > 2


def test_a_baseline_that_is_cut_refutes_nothing():
    # the arm arrives at half of the budget, the baseline never: at least twice as quick, perhaps much more
    bound = cost_ratio({"p": reached(50, 50, 50)}, {"p": censored(100, 100, 100)})
    assert bound.ratio == pytest.approx(2)
    assert verdict(bound, 3) == "open"
    assert verdict(cost_ratio({"p": reached(50, 50, 50)}, {"p": reached(100, 100, 100)}), 3) == "refuted"
    assert verdict(cost_ratio({"p": reached(9, 10, 11)}, {"p": censored(100, 100, 100)}), 3) == "supported"
    assert verdict(None, 3) == "not reached"


def test_a_failure_is_the_largest_error_and_not_dropped():
    assert log_nmse(None) == log_nmse(math.inf) == log_nmse(math.nan) == math.log10(CEILING)
    assert nmse_spread([1e-3, None, None]).median == pytest.approx(CEILING)
    assert nmse_spread([1e-3, 1e-5, None]).median == pytest.approx(1e-3)
    assert nmse_spread([]) is None


def test_errors_below_rounding_are_equal_to_the_test():
    one = compare_arms({"a": [(1e-28, 1e-12)] * 6})["a"]
    assert (one.difference, one.p, one.better, one.worse) == (0, 1, 0, 0)


def test_an_arm_that_is_better_in_every_pair_has_the_least_p():
    pairs = [(10.0**-k, 10.0 ** (-k + 2)) for k in range(1, 8)]
    found = compare_arms({"better": pairs, "equal": [(b, b) for _, b in pairs]})
    assert found["better"].p == pytest.approx(2 / 2**7)  # all seven signs agree
    assert found["better"].p_holm == pytest.approx(4 / 2**7)  # two arms are tested
    assert found["better"].difference == pytest.approx(-2)
    assert found["equal"].p_holm == 1


def test_zeros_alone_are_no_evidence():
    assert signed_rank(np.zeros(5)) == 1.0


@pytest.mark.parametrize("zeros", [0, 1, 3])
def test_the_p_of_few_pairs_is_that_of_all_their_signs(zeros):
    sizes = np.array([0.5, 0.5, 1.0, 2.0, 2.0, 3.0, 4.0])  # with ties
    ranks = stats.rankdata([0.0] * zeros + sizes.tolist())[zeros:]
    sums = np.array([ranks @ signs for signs in itertools.product((0, 1), repeat=len(sizes))])
    for signs in ([1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1, 0]):
        found = ranks @ np.array(signs)
        p = min(1.0, 2 * min(np.mean(sums <= found), np.mean(sums >= found)))
        differences = np.concatenate([np.zeros(zeros), np.where(signs, sizes, -sizes)])
        assert signed_rank(differences) == pytest.approx(p, rel=1e-12)


def test_five_wins_among_twenty_pairs_are_what_five_coins_give():
    assert signed_rank(np.array([0.0] * 15 + [1.0, 2.0, 3.0, 4.0, 5.0])) == 2 / 2**5


def test_holm_as_worked_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers_a_p(p):
    corrected = holm(p)
    assert all(p[name] <= corrected[name] <= 1 for name in p)
    order = sorted(p, key=lambda name: p[name])
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))
