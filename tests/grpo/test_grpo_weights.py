"""Weights in bfloat16 are trained as float32 ones would be, wherever the optimiser lies."""

import copy

import pytest

torch = pytest.importorskip("torch")

from llmsr.grpo.local_trainer import TrainedWeights  # noqa: E402

STEPS, RATE = 60, 1e-5  # less than half a unit of bfloat16 at these weights


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(6, 4)

    @property
    def device(self):
        return self.layer.weight.device

    def pass_over(self, rows):
        (self.layer(rows.to(self.layer.weight.dtype)) ** 2).sum().backward()


def trained(model, offload=False):
    weights = TrainedWeights(model, RATE, offload)
    rows = torch.randn(STEPS, 2, 8, 6, generator=torch.Generator().manual_seed(1))
    for step in rows:
        weights.clear()
        for part in step:
            model.pass_over(part)
        weights.step()
    return weights


@pytest.mark.parametrize("offload", [False, True])
def test_steps_too_small_for_bfloat16_add_up(offload):
    plain = Line().bfloat16().float()
    narrow = copy.deepcopy(plain).bfloat16()
    before = narrow.layer.weight.clone()
    trained(plain)
    trained(narrow, offload)
    assert plain.layer.weight.sub(before.float()).abs().max() > 20 * RATE
    gap = (plain.layer.weight - narrow.layer.weight.float()).abs()
    assert bool((gap <= 2**-8 * plain.layer.weight.abs() + 5 * RATE).all())
    assert bool((narrow.layer.weight != before).any())


def test_a_state_goes_on_where_it_was_left():
    one = Line().bfloat16()
    weights = trained(one)
    other = Line().bfloat16()
    other.load_state_dict(one.state_dict())
    again = TrainedWeights(other, RATE)
    again.load(copy.deepcopy(weights.state()))
    for model, its in ((one, weights), (other, again)):
        its.clear()
        model.pass_over(torch.ones(3, 6))
        its.step()
    for a, b in zip(weights.state()["masters"], again.state()["masters"], strict=True):
        assert torch.equal(a, b)


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = Line()
    weights = TrainedWeights(model, RATE)
    before = model.layer.weight.clone()
    model.pass_over(torch.full((1, 6), float("inf")))
    assert not torch.isfinite(torch.tensor(weights.step()))
    assert torch.equal(model.layer.weight, before)


def test_what_was_trained_in_float32_goes_on_in_bfloat16():
    one = Line().float()
    state = copy.deepcopy(trained(one).state())
    other = Line().bfloat16()
    other.load_state_dict(one.state_dict())
    expected = other.layer.weight.clone()
    assert bool((expected != Line().bfloat16().layer.weight).any())
    TrainedWeights(other, RATE).load(state)
    assert torch.equal(other.layer.weight, expected)
