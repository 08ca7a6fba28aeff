"""The factors of one variable that textbooks of many fields use, and how often a form draws each.

Polynomials, waves, damping, saturation (Monod, Hill), inhibition, Arrhenius, logistic and hyperbolic steps,
bumps, thresholds, free powers. Nothing here is aimed at one problem.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from random import Random

from llmsr.proposers.grammar.inputs import Inputs, tame
from llmsr.proposers.grammar.tree import ONE, P, Tree, add, const, fn, minus, mul, power

Maker = Callable[[Random, Tree], Tree]


def _shared(rng: Random) -> Tree:
    return ("p", rng.getrandbits(30) + 1)


def _one(rng: Random) -> Tree:
    """The 1 of a saturating form, now and then free."""
    return ONE if rng.random() < 0.45 else const("1") if rng.random() < 0.7 else P


def scaled(rng: Random, x: Tree, free: float = 0.75) -> Tree:
    """x, or x times a free constant."""
    return mul(P, x) if rng.random() < free else x


def _shifted(rng: Random, x: Tree, free: float = 0.75) -> Tree:
    return minus(x, P) if rng.random() < free else x


def _wave(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    name = "sin" if rng.random() < 0.55 else "cos"
    if draw < 0.34:
        argument = x
    elif draw < 0.72:
        argument = mul(P, x)
    elif draw < 0.9:
        argument = add(mul(P, x), P)
    elif draw < 0.96:
        argument = mul(P, minus(x, P))
    else:
        argument = mul(const(rng.choice(("2", "3", "0.5", "np.pi", "2.0"))), x)
    wave = fn(name, argument)
    return power(wave, 2) if rng.random() < 0.1 else wave


def _exponential(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.12:
        return fn("exp", x)
    if draw < 0.25:
        return fn("exp", ("neg", x))
    if draw < 0.55:
        return fn("exp", mul(P, x))
    if draw < 0.9:
        return fn("exp", mul(("neg", P), x))
    if draw < 0.95:
        return minus(_one(rng), fn("exp", mul(("neg", P), x)))
    return fn("exp", ("/", ("neg", x), P))


def _bump(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.1:
        return fn("exp", ("neg", power(x, 2)))
    if draw < 0.3:
        return fn("exp", mul(("neg", P), power(x, 2)))
    if draw < 0.55:
        return fn("exp", mul(("neg", P), power(minus(x, P), 2)))
    if draw < 0.65:
        return fn("exp", ("neg", power(("/", minus(x, P), P), 2)))
    if draw < 0.85:
        return fn("exp", mul(("neg", P), fn("abs", _shifted(rng, x))))
    if draw < 0.9:
        return fn("exp", ("neg", fn("abs", minus(x, P))))
    return ("/", _one(rng), add(ONE, mul(P, power(_shifted(rng, x), rng.choice((2, 2, 2, 3, 4))))))


def _saturation(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.38:
        return ("/", x, add(P, x) if rng.random() < 0.5 else add(x, P))
    if draw < 0.48:
        return ("/", x, add(_one(rng), x))
    if draw < 0.58:
        return ("/", x, add(ONE, mul(P, x)))
    if draw < 0.68:
        return ("/", power(x, 2), add(P, power(x, 2)))
    if draw < 0.86:
        n = _shared(rng)
        below = power(P, n) if rng.random() < 0.4 else P
        return ("/", power(x, n), add(below, power(x, n)))
    return ("/", x, add(P, x, ("/", power(x, 2), P)))


def _inhibition(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.25:
        return ("/", ONE, add(ONE, mul(P, x)))
    if draw < 0.4:
        return ("/", ONE, add(ONE, ("/", x, P)))
    if draw < 0.5:
        return ("/", ONE, add(P, x))
    if draw < 0.65:
        return ("/", ONE, add(ONE, mul(P, power(x, rng.choice((2, 2, 3))))))
    if draw < 0.75:
        return ("/", ONE, add(ONE, power(("/", x, P), P)))
    if draw < 0.85:
        return ("/", P, add(P, x))
    return ("/", ONE, x) if draw < 0.93 else power(x, ("neg", P))


def _step(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.15:
        return fn("tanh", x)
    if draw < 0.45:
        return fn("tanh", mul(P, x))
    if draw < 0.65:
        return fn("tanh", mul(P, minus(x, P)))
    if draw < 0.7:
        return fn("arctan", scaled(rng, x))
    slope = mul(("neg", P), minus(x, P) if rng.random() < 0.7 else x)
    return ("/", ONE, add(ONE, fn("exp", slope)))


def _shape(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.2:
        return minus(x, P)
    if draw < 0.34:
        return minus(ONE, ("/", x, P))
    if draw < 0.44:
        return minus(ONE, mul(P, x))
    if draw < 0.54:
        return minus(ONE, power(x, P)) if rng.random() < 0.4 else minus(ONE, mul(P, power(x, P)))
    if draw < 0.64:
        return add(P, power(x, P)) if rng.random() < 0.4 else add(P, mul(P, power(x, P)))
    if draw < 0.72:
        return add(ONE, mul(P, x))
    if draw < 0.8:
        return add(P, mul(P, x), mul(P, power(x, 2)))
    if draw < 0.88:
        return power(minus(x, P), 2)
    if draw < 0.94:
        return mul(minus(x, P), minus(P, x))
    return add(P, mul(P, fn("log", x)))


def _free_power(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.35:
        return power(x, P)
    if draw < 0.65:
        return power(fn("abs", x), P)
    if draw < 0.75:
        return power(fn("abs", minus(x, P)), P)
    if draw < 0.9:
        return fn("sqrt", fn("abs", x) if rng.random() < 0.5 else x)
    return power(add(x, P), P)


def _logarithm(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.25:
        return fn("log", x)
    if draw < 0.5:
        return fn("log", add(x, P)) if rng.random() < 0.5 else fn("log", add(ONE, mul(P, x)))
    if draw < 0.75:
        return fn("log1p", x if rng.random() < 0.3 else fn("abs", x))
    return fn("log", add(fn("abs", x), ONE if rng.random() < 0.5 else P))


def _kink(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.4:
        return fn("abs", x)
    if draw < 0.5:
        return fn("abs", minus(x, P))
    if draw < 0.65:
        return ("g", "maximum", minus(x, P), const("0.0"))
    if draw < 0.75:
        return ("g", "minimum", x, P)
    if draw < 0.85:
        return mul(x, fn("abs", x))
    if draw < 0.9:
        return fn("sign", x)
    first, second = (P, P) if rng.random() < 0.5 else (mul(P, x), P)
    return ("if", rng.choice("<>"), x, P, first, second)


def _arrhenius(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.4:
        return fn("exp", ("/", ("neg", P), x))
    if draw < 0.75:
        return fn("exp", ("/", ("neg", P), add(x, P)))
    if draw < 0.9:
        return fn("exp", mul(P, minus(("/", ONE, P), ("/", ONE, x))))
    return power(P, ("/", minus(x, P), const("10.0")))


def monomial(rng: Random, x: Tree) -> Tree:
    """x to a whole power of 1 to 5."""
    draw = rng.random()
    return x if draw < 0.45 else power(x, 2 if draw < 0.7 else 3 if draw < 0.93 else 4 if draw < 0.97 else 5)


def _hyperbolic(rng: Random, x: Tree) -> Tree:
    return fn(rng.choice(("sinh", "cosh", "arcsinh", "tan", "sinh")), scaled(rng, x))


MAKERS: dict[str, Maker] = {
    maker.__name__.lstrip("_"): maker
    for maker in (
        monomial, _wave, _exponential, _bump, _saturation, _inhibition, _step, _shape, _free_power,
        _logarithm, _kink, _arrhenius, _hyperbolic,
    )
}  # fmt: skip


class Choice:
    """A weighted choice among the makers of trees, from text such as "monomial 10, wave 4"."""

    def __init__(self, weighted: str) -> None:
        pairs = [pair.split() for pair in weighted.split(",")]
        self.makers = [MAKERS[name] for name, _ in pairs]
        self.cumulative = list(accumulate(float(weight) for _, weight in pairs))

    def draw(self, rng: Random) -> Maker:
        return rng.choices(self.makers, cum_weights=self.cumulative)[0]


_TERM_FACTORS = Choice(
    "monomial 20, wave 9, exponential 6.5, bump 2.5, saturation 3, inhibition 1.5, step 3, shape 1, "
    "free_power 3, logarithm 1.6, kink 3.4, arrhenius 0.6, hyperbolic 0.5"
)
_CURVES = Choice(
    "wave 8, exponential 6, bump 2.5, saturation 2.5, inhibition 1.5, step 3, free_power 2.5, logarithm "
    "1.5, kink 3"
)
_PRODUCT_FACTORS = Choice(
    "monomial 13, wave 4, exponential 7, bump 10, saturation 12, inhibition 6, step 8, shape 12, free_power "
    "8, logarithm 2, kink 3, arrhenius 3.5"
)

# the forms that textbooks use for a sort of quantity
KINDS: dict[str, Choice] = {
    kind: Choice(weighted)
    for kind, weighted in {
        "position": "monomial 10, wave 4, exponential 3, kink 2, step 2, bump 2",
        "velocity": "monomial 10, kink 4, step 3, free_power 2, exponential 1, wave 1",
        "angle": "wave 12, monomial 4, step 1",
        "time": "wave 8, exponential 8, monomial 3, step 3, free_power 1",
        "temperature": "arrhenius 4, bump 6, step 5, shape 6, exponential 5, free_power 4, monomial 4",
        "concentration": "saturation 11, inhibition 5, monomial 6, exponential 2, free_power 2",
        "acidity": "bump 10, shape 4, step 2, inhibition 1, exponential 1, monomial 1",
        "population": "monomial 10, shape 5, saturation 5, free_power 2, inhibition 1",
        "light": "saturation 8, step 4, exponential 3, monomial 2, bump 2",
        "strain": "free_power 7, exponential 4, monomial 4, shape 4, saturation 3, kink 3, step 2",
        "size": "free_power 8, monomial 9, inhibition 3, logarithm 2, exponential 1",
        "rate": "free_power 5, logarithm 4, monomial 5, saturation 3, shape 2",
        "signal": "step 6, monomial 5, exponential 3, kink 2, wave 2",
    }.items()
}


def _drawn(rng: Random, choice: Choice, x: Tree, inputs: Inputs) -> Tree:
    if inputs.kinds and rng.random() < 0.55:
        choice = KINDS.get(inputs.kinds[x[1]], choice)
    for _ in range(8):
        tree = choice.draw(rng)(rng, x)
        if x[1] not in inputs.signed or tame(tree, inputs.signed):
            return tree
    return x


def term_factor(rng: Random, x: Tree, inputs: Inputs) -> Tree:
    """A factor in one variable as it stands in a term of a sum."""
    return _drawn(rng, _TERM_FACTORS, x, inputs)


def factor(rng: Random, x: Tree, inputs: Inputs) -> Tree:
    """A factor in one variable as it stands in a product of several."""
    return _drawn(rng, _PRODUCT_FACTORS, x, inputs)


def curve(rng: Random, x: Tree, inputs: Inputs) -> Tree:
    """A function of one variable that is no polynomial."""
    return _drawn(rng, _CURVES, x, inputs)
