"""The grammar: factors of one and two variables, terms, and whole forms of scientific equations.

Nothing here is aimed at one problem. A form is a sum of terms, a product of one factor per variable, or a
composition of the two; a factor comes from textbooks of many fields: polynomials, waves, damping, saturation
(Monod, Hill), inhibition, Arrhenius, logistic and hyperbolic steps, bumps, thresholds, free powers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from llmsr.llm.grammar.tree import ONE, P, Tree, add, children, mul, variables


@dataclass(frozen=True)
class Inputs:
    """What the grammar may know of the columns; only their number is needed.

    `signed` numbers those that can be negative. `kinds` names the sort of quantity of each (a key of `KINDS`,
    or anything else for an unknown sort), which makes the forms more frequent that textbooks use for it;
    `product` is the share of product forms.
    """

    count: int
    signed: frozenset[int] = frozenset()
    kinds: tuple[str, ...] = ()
    product: float | None = None


Maker = Callable[[Random, Tree], Tree]


class Choice:
    """A weighted choice among makers of trees."""

    def __init__(self, *weighted: tuple[float, Callable]) -> None:
        self.makers = [maker for _, maker in weighted]
        self.cumulative = list(accumulate(weight for weight, _ in weighted))

    def draw(self, rng: Random) -> Callable:
        return rng.choices(self.makers, cum_weights=self.cumulative)[0]


def const(text: str) -> Tree:
    """A fixed number."""
    return ("c", text)


def fn(name: str, argument: Tree) -> Tree:
    """A numpy function of one argument."""
    return ("f", name, argument)


def power(base: Tree, exponent: int | Tree) -> Tree:
    """The base to a whole or to a given power."""
    return ("^", base, ("c", str(exponent)) if isinstance(exponent, int) else exponent)


def minus(left: Tree, right: Tree) -> Tree:
    """left - right."""
    return add(left, ("neg", right))


def _shared(rng: Random) -> Tree:
    return ("p", rng.getrandbits(30) + 1)


def _one(rng: Random) -> Tree:
    """The 1 of a saturating form, now and then free."""
    return ONE if rng.random() < 0.45 else const("1") if rng.random() < 0.7 else P


def _scaled(rng: Random, x: Tree, free: float = 0.75) -> Tree:
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
        return fn("arctan", _scaled(rng, x))
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


def _monomial(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    return x if draw < 0.45 else power(x, 2 if draw < 0.7 else 3 if draw < 0.93 else 4 if draw < 0.97 else 5)


def _hyperbolic(rng: Random, x: Tree) -> Tree:
    return fn(rng.choice(("sinh", "cosh", "arcsinh", "tan", "sinh")), _scaled(rng, x))


_TERM_FACTORS = Choice(
    (20, _monomial),
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
    (13, _monomial),
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
    "position": Choice((10, _monomial), (4, _wave), (3, _exponential), (2, _kink), (2, _step), (2, _bump)),
    "velocity": Choice(
        (10, _monomial), (4, _kink), (3, _step), (2, _free_power), (1, _exponential), (1, _wave)
    ),
    "angle": Choice((12, _wave), (4, _monomial), (1, _step)),
    "time": Choice((8, _wave), (8, _exponential), (3, _monomial), (3, _step), (1, _free_power)),
    "temperature": Choice(
        (4, _arrhenius),
        (6, _bump),
        (5, _step),
        (6, _shape),
        (5, _exponential),
        (4, _free_power),
        (4, _monomial),
    ),
    "concentration": Choice(
        (11, _saturation), (5, _inhibition), (6, _monomial), (2, _exponential), (2, _free_power)
    ),
    "acidity": Choice(
        (10, _bump), (4, _shape), (2, _step), (1, _inhibition), (1, _exponential), (1, _monomial)
    ),
    "population": Choice((10, _monomial), (5, _shape), (5, _saturation), (2, _free_power), (1, _inhibition)),
    "light": Choice((8, _saturation), (4, _step), (3, _exponential), (2, _monomial), (2, _bump)),
    "strain": Choice(
        (7, _free_power),
        (4, _exponential),
        (4, _monomial),
        (4, _shape),
        (3, _saturation),
        (3, _kink),
        (2, _step),
    ),
    "size": Choice((8, _free_power), (9, _monomial), (3, _inhibition), (2, _logarithm), (1, _exponential)),
    "rate": Choice((5, _free_power), (4, _logarithm), (5, _monomial), (3, _saturation), (2, _shape)),
    "signal": Choice((6, _step), (5, _monomial), (3, _exponential), (2, _kink), (2, _wave)),
}


def _loose(tree: Tree, signed: frozenset[int]) -> bool:
    """Whether the tree can be negative because a signed input is."""
    kind = tree[0]
    if kind == "v":
        return tree[1] in signed
    if kind == "f" and tree[1] in ("abs", "exp", "cosh"):
        return False
    if kind == "^" and tree[2][0] == "c":
        return tree[2][1] not in ("2", "4") and _loose(tree[1], signed)
    return any(_loose(child, signed) for child in children(tree))


def tame(tree: Tree, signed: frozenset[int]) -> bool:
    """Whether no root, logarithm, free power or denominator meets the bare value of a signed input."""
    if not signed:
        return True
    kind = tree[0]
    if kind == "/" and _loose(tree[2], signed):
        return False
    if kind == "^" and (tree[2][0] != "c" or tree[2][1] == "0.5") and _loose(tree[1], signed):
        return False
    if kind == "f" and tree[1] in ("sqrt", "log", "log1p") and _loose(tree[2], signed):
        return False
    return all(tame(child, signed) for child in children(tree))


def _drawn(rng: Random, choice: Choice, x: Tree, inputs: Inputs) -> Tree:
    if inputs.kinds and rng.random() < 0.55:
        choice = KINDS.get(inputs.kinds[x[1]], choice)
    for _ in range(8):
        tree = choice.draw(rng)(rng, x)
        if x[1] not in inputs.signed or tame(tree, inputs.signed):
            return tree
    return x


def factor(rng: Random, x: Tree, inputs: Inputs) -> Tree:
    """A factor in one variable as it stands in a product of several."""
    return _drawn(rng, _PRODUCT_FACTORS, x, inputs)


def curve(rng: Random, x: Tree, inputs: Inputs) -> Tree:
    """A function of one variable that is no polynomial."""
    return _drawn(rng, _CURVES, x, inputs)


def pair(rng: Random, x: Tree, y: Tree, inputs: Inputs) -> Tree:
    """A function of two variables at once."""
    for _ in range(8):
        tree = _pair(rng, x, y)
        if tame(tree, inputs.signed):
            return tree
    return mul(x, y)


def _pair(rng: Random, x: Tree, y: Tree) -> Tree:
    draw = rng.random()
    if draw < 0.14:
        return ("/", x, y) if rng.random() < 0.5 else ("/", x, add(P, y))
    if draw < 0.22:
        return ("/", x, add(ONE, mul(P, y)))
    if draw < 0.32:
        return fn(rng.choice(("sin", "cos", "tanh")), mul(P, x, y) if rng.random() < 0.4 else mul(x, y))
    if draw < 0.42:
        return fn(rng.choice(("sin", "cos")), add(_scaled(rng, x), _scaled(rng, y)))
    if draw < 0.5:
        return minus(x, y) if rng.random() < 0.6 else power(minus(x, y), 2)
    if draw < 0.6:
        return fn("exp", mul(("neg", P), x, y) if rng.random() < 0.5 else ("/", mul(("neg", P), x), y))
    if draw < 0.68:
        return fn("sqrt", add(power(x, 2), power(y, 2)))
    if draw < 0.76:
        return fn("abs", mul(x, y) if rng.random() < 0.4 else minus(x, y))
    if draw < 0.88:
        return mul(power(x, P), power(y, P))
    if draw < 0.94:
        return fn("tanh", add(mul(P, x), mul(P, y)))
    return ("g", rng.choice(("maximum", "minimum")), x, y)


def _variable(rng: Random, inputs: Inputs) -> Tree:
    return ("v", rng.randrange(inputs.count))


def _two(rng: Random, inputs: Inputs) -> tuple[Tree, Tree]:
    if inputs.count == 1:
        return ("v", 0), ("v", 0)
    first, second = sorted(rng.sample(range(inputs.count), 2))
    return ("v", first), ("v", second)


def term(rng: Random, inputs: Inputs) -> Tree:
    """One term of a sum, with its free coefficient."""
    draw = rng.random()
    x = _variable(rng, inputs)
    if draw < 0.27:
        core = _monomial(rng, x)
    elif draw < 0.44:
        x, y = _two(rng, inputs)
        core = mul(_low_power(rng, x), _low_power(rng, y)) if inputs.count > 1 else _monomial(rng, x)
    elif draw < 0.66:
        core = curve(rng, x, inputs)
    elif draw < 0.86:
        # a monomial times a curve, of the same variable or of two
        y = x if rng.random() < 0.5 else _variable(rng, inputs)
        core = mul(_low_power(rng, x), curve(rng, y, inputs))
    elif draw < 0.92:
        core = mul(*(_drawn(rng, _TERM_FACTORS, z, inputs) for z in (x, _variable(rng, inputs))))
    elif draw < 0.97 and inputs.count > 1:
        x, y = _two(rng, inputs)
        core = pair(rng, *((x, y) if rng.random() < 0.5 else (y, x)), inputs)
    elif inputs.count > 2:
        core = mul(*(_low_power(rng, ("v", i)) for i in sorted(rng.sample(range(inputs.count), 3))))
    else:
        core = _drawn(rng, _TERM_FACTORS, x, inputs)
    draw = rng.random()
    if draw < 0.9:
        return mul(P, core)
    if draw < 0.95:
        return core
    return ("neg", mul(P, core))


def _low_power(rng: Random, x: Tree) -> Tree:
    draw = rng.random()
    return x if draw < 0.7 else power(x, 2 if draw < 0.93 else 3)


def sum_form(rng: Random, inputs: Inputs, terms: int | None = None) -> Tree:
    """A sum of terms, with or without a constant."""
    if terms is None:
        terms = rng.choices((1, 2, 3, 4, 5, 6, 7, 8, 9), (2, 8, 14, 18, 19, 16, 12, 7, 4))[0]
    parts = [term(rng, inputs) for _ in range(terms)]
    if rng.random() < 0.3:
        parts.append(P)
    return add(*parts)


def product_form(rng: Random, inputs: Inputs) -> Tree:
    """An amplitude times about one factor for each variable."""
    order = list(range(inputs.count))
    if rng.random() < 0.2:
        rng.shuffle(order)
    used = [i for i in order if rng.random() < 0.88] or [rng.randrange(inputs.count)]
    factors: list[Tree] = [P] if rng.random() < 0.9 else []
    for i in used:
        x = ("v", i)
        factors.append(factor(rng, x, inputs))
        if rng.random() < (0.28 if inputs.count < 4 else 0.16):
            factors.append(factor(rng, x, inputs))
    if inputs.count > 1 and rng.random() < 0.06:
        factors.append(pair(rng, *_two(rng, inputs), inputs))
    return mul(*factors)


def linear(rng: Random, columns: int, constant: float = 0.9) -> Tree:
    """The plainest equation: a coefficient for every variable."""
    parts: list[Tree] = [mul(P, ("v", i)) for i in range(columns)]
    if rng.random() < constant:
        parts.append(P)
    return add(*parts)


def _small(rng: Random, inputs: Inputs) -> Tree:
    return (
        sum_form(rng, inputs, rng.choice((1, 2, 2, 3))) if rng.random() < 0.6 else product_form(rng, inputs)
    )


def composed_form(rng: Random, inputs: Inputs) -> Tree:
    """Sums and products put together: branches, quotients, functions of sums, factored sums."""
    draw = rng.random()
    if draw < 0.3:
        parts = [product_form(rng, inputs) for _ in range(rng.choice((1, 1, 2)))]
        return add(*parts, *(term(rng, inputs) for _ in range(rng.choice((1, 1, 2, 3)))))
    if draw < 0.42:
        return mul(_small(rng, inputs), add(P if rng.random() < 0.5 else ONE, term(rng, inputs)))
    if draw < 0.5:
        return mul(_low_power(rng, _variable(rng, inputs)), sum_form(rng, inputs, rng.choice((2, 3, 4))))
    if draw < 0.6:
        below = add(
            ONE if rng.random() < 0.6 else P, *(term(rng, inputs) for _ in range(rng.choice((1, 1, 2))))
        )
        return ("/", _small(rng, inputs), below)
    if draw < 0.74:
        name = rng.choice(("minimum", "minimum", "minimum", "maximum"))
        return ("g", name, _small(rng, inputs), _small(rng, inputs))
    if draw < 0.85:
        left = _variable(rng, inputs)
        return ("if", rng.choice("<>"), left, P, _small(rng, inputs), _small(rng, inputs))
    inner = sum_form(rng, inputs, rng.choice((1, 2, 2, 3)))
    name = rng.choice(("tanh", "exp", "sin", "cos", "exp", "tanh", "log1p", "sqrt"))
    whole = mul(P, fn(name, fn("abs", inner) if name in ("log1p", "sqrt") else inner))
    return add(whole, *(term(rng, inputs) for _ in range(rng.choice((0, 0, 1, 2, 3)))))


def random_tree(rng: Random, inputs: Inputs) -> Tree:
    """A skeleton drawn from the whole grammar; it uses at least one of the inputs."""
    draw = rng.random()
    product = inputs.product
    if product is None:
        product = 0.2 if inputs.count < 3 else 0.3
    while True:
        if draw < 0.16:
            tree = composed_form(rng, inputs)
        elif draw < 0.16 + product:
            tree = product_form(rng, inputs)
        else:
            tree = sum_form(rng, inputs)
        if variables(tree) and tame(tree, inputs.signed):
            return tree
