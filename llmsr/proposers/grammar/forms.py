"""Terms, and whole forms of scientific equations made of them.

A form is a sum of terms, a product of one factor per variable, or a composition of the two.
"""

from __future__ import annotations

from random import Random

from llmsr.proposers.grammar.factors import curve, factor, monomial, scaled, term_factor
from llmsr.proposers.grammar.inputs import Inputs, tame
from llmsr.proposers.grammar.tree import ONE, P, Tree, add, fn, minus, mul, power, variables


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
        return fn(rng.choice(("sin", "cos")), add(scaled(rng, x), scaled(rng, y)))
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
        core = monomial(rng, x)
    elif draw < 0.44:
        x, y = _two(rng, inputs)
        core = mul(_low_power(rng, x), _low_power(rng, y)) if inputs.count > 1 else monomial(rng, x)
    elif draw < 0.66:
        core = curve(rng, x, inputs)
    elif draw < 0.86:
        # a monomial times a curve, of the same variable or of two
        y = x if rng.random() < 0.5 else _variable(rng, inputs)
        core = mul(_low_power(rng, x), curve(rng, y, inputs))
    elif draw < 0.92:
        core = mul(*(term_factor(rng, z, inputs) for z in (x, _variable(rng, inputs))))
    elif draw < 0.97 and inputs.count > 1:
        x, y = _two(rng, inputs)
        core = pair(rng, *((x, y) if rng.random() < 0.5 else (y, x)), inputs)
    elif inputs.count > 2:
        core = mul(*(_low_power(rng, ("v", i)) for i in sorted(rng.sample(range(inputs.count), 3))))
    else:
        core = term_factor(rng, x, inputs)
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
