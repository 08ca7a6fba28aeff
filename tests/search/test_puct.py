"""PUCT: what led to the best is built upon, what was seldom built upon comes too, and a batch spreads."""

import numpy as np
import pytest

from llmsr.search.population import Member
from llmsr.search.puct import Puct


def member(name, nmse, sample=1):
    return Member(sample, f"    return {name}", name, -nmse, nmse, 3, ())


def generator(seed=0):
    return np.random.default_rng(seed)


def built_upon(puct, draw):
    return puct.states[draw.island].member.canonical


def test_a_good_descendant_makes_its_ancestors_worth_building_upon():
    puct = Puct([member("a", 0.5), member("b", 0.4)], exploration=0.0)
    assert built_upon(puct, puct.draw(generator())) == "b"
    puct.add(member("a1", 0.6), 0)
    puct.add(member("a2", 1e-6), 2)
    assert [state.best for state in puct.states] == pytest.approx([6, 0.39794, 6, 6], abs=1e-4)


def test_a_bad_descendant_takes_nothing_away():
    puct = Puct([member("a", 1e-3)])
    puct.add(member("a1", 0.9), 0)
    assert puct.states[0].best == puct.states[0].value == pytest.approx(3)


def test_a_batch_drawn_before_its_answers_does_not_pick_one_state_alone():
    puct = Puct([member("seed", 0.9), *(member(str(i), 1e-3 * (1 + 0.1 * i)) for i in range(8))])
    chosen = {built_upon(puct, puct.draw(generator(i))) for i in range(8)}
    assert len(chosen) >= 4


def test_exploration_zero_is_greedy():
    puct = Puct([member(str(i), 0.1 + 0.01 * i) for i in range(8)], exploration=0.0)
    for i in range(8):
        assert built_upon(puct, puct.draw(generator(i))) == "0"
        puct.end_of_sample(i)


def test_a_batch_builds_on_no_lineage_twice_while_there_are_others():
    puct = Puct([member("a", 0.5), member("b", 0.4), member("c", 0.3)], exploration=0.0)
    puct.add(member("a1", 1e-3), 0)
    puct.add(member("a2", 1e-4), 3)
    puct.add(member("b1", 1e-2), 1)
    for _ in range(2):
        batch = [puct.draw(generator(i)) for i in range(3)]
        families = [built_upon(puct, draw)[0] for draw in batch]
        assert families == ["a", "b", "c"]
        assert len({draw.members for draw in batch}) == 3
    again = {built_upon(puct, puct.draw(generator(i)))[0] for i in range(7)}  # more than there are lineages
    assert again == {"a", "b", "c"}


def test_an_equation_found_twice_is_one_state_with_two_parents():
    puct = Puct([member("a", 0.5), member("b", 0.4)])
    puct.add(member("c", 1e-4), 0)
    puct.add(member("c", 1e-4), 1)
    assert len(puct.states) == 3
    assert [state.best for state in puct.states] == pytest.approx([4, 4, 4])


def test_cycles_of_descent_end():
    puct = Puct([member("a", 0.5)])
    puct.add(member("b", 0.4), 0)
    puct.add(member("a", 0.5), 1)
    puct.add(member("c", 1e-5), 0)
    assert [state.best for state in puct.states] == pytest.approx([5, 5, 5])


def test_the_same_additions_and_draws_give_the_same_prompts():
    def course():
        puct = Puct([member("a", 0.5), member("b", 0.4)])
        drawn = []
        for i in range(20):
            draw = puct.draw(generator(i))
            drawn.append([m.canonical for m in draw.members])
            puct.add(member(f"n{i}", 0.5 / (i + 1)), draw.island)
        return drawn

    assert course() == course()


def test_prompts_show_worst_first_and_errors_that_are_not_finite_are_worth_nothing():
    puct = Puct([member("a", float("inf")), member("b", 0.1)])
    draw = puct.draw(generator())
    assert [m.canonical for m in draw.members] == ["a", "b"]
    assert np.isfinite(puct.priorities()).all()


def test_nothing_to_show_is_an_empty_draw():
    assert Puct([]).draw(generator()).members == ()
