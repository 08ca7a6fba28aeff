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


class Choice:
    """A weighted choice among makers of trees."""

    def __init__(self, *weighted: tuple[float, Callable]) -> None:
        self.makers = [maker for _, maker in weighted]
        self.cumulative = list(accumulate(weight for weight, _ in weighted))

    def draw(self, rng: Random) -> Callable:
        return rng.choices(self.makers, cum_weights=self.cumulative)[0]


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


_TERM_FACTORS = Choice(
    (20, monomial),
    (9, _wave),
    (6.5, _exponential),
    (2.5, _bump),
    (3, _saturation),
    (1.5, _inhibition),
    (3, _step),
    (1, _shape),
    (3, _free_power),
    (1.6, _logarithm),
    (3.4, _kink),
    (0.6, _arrhenius),
    (0.5, _hyperbolic),
)
_CURVES = Choice(
    (8, _wave),
    (6, _exponential),
    (2.5, _bump),
    (2.5, _saturation),
    (1.5, _inhibition),
    (3, _step),
    (2.5, _free_power),
    (1.5, _logarithm),
    (3, _kink),
)
_PRODUCT_FACTORS = Choice(
    (13, monomial),
    (4, _wave),
    (7, _exponential),
    (10, _bump),
    (12, _saturation),
    (6, _inhibition),
    (8, _step),
    (12, _shape),
    (8, _free_power),
    (2, _logarithm),
    (3, _kink),
    (3.5, _arrhenius),
)


# the forms that textbooks use for a sort of quantity
KINDS: dict[str, Choice] = {
    "position": Choice((10, monomial), (4, _wave), (3, _exponential), (2, _kink), (2, _step), (2, _bump)),
    "velocity": Choice(
        (10, monomial), (4, _kink), (3, _step), (2, _free_power), (1, _exponential), (1, _wave)
    ),
    "angle": Choice((12, _wave), (4, monomial), (1, _step)),
    "time": Choice((8, _wave), (8, _exponential), (3, monomial), (3, _step), (1, _free_power)),
    "temperature": Choice(
        (4, _arrhenius),
        (6, _bump),
        (5, _step),
        (6, _shape),
        (5, _exponential),
        (4, _free_power),
        (4, monomial),
    ),
    "concentration": Choice(
        (11, _saturation), (5, _inhibition), (6, monomial), (2, _exponential), (2, _free_power)
    ),
    "acidity": Choice(
        (10, _bump), (4, _shape), (2, _step), (1, _inhibition), (1, _exponential), (1, monomial)
    ),
    "population": Choice((10, monomial), (5, _shape), (5, _saturation), (2, _free_power), (1, _inhibition)),
    "light": Choice((8, _saturation), (4, _step), (3, _exponential), (2, monomial), (2, _bump)),
    "strain": Choice(
        (7, _free_power),
        (4, _exponential),
        (4, monomial),
        (4, _shape),
        (3, _saturation),
        (3, _kink),
        (2, _step),
    ),
    "size": Choice((8, _free_power), (9, monomial), (3, _inhibition), (2, _logarithm), (1, _exponential)),
    "rate": Choice((5, _free_power), (4, _logarithm), (5, monomial), (3, _saturation), (2, _shape)),
    "signal": Choice((6, _step), (5, monomial), (3, _exponential), (2, _kink), (2, _wave)),
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
