"""The grammar: forms that textbooks of many fields use, as one table of weighted texts; and draws from it.

Polynomials, waves, damping, saturation (Monod, Hill), inhibition, Arrhenius, logistic and hyperbolic steps,
bumps, thresholds, free powers, and the sums, products, quotients and branches made of them. Nothing here is
aimed at one problem.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from llmsr.proposers.grammar.trees import LEAVES, P, Tree, children, made, tree_of, variables

# A rule a line: its name, what it is given, and its alternatives, each behind its weight. P is a free
# constant, N one constant for all its places; `any` is a column at random, `two` and `three` are as many
# different ones; many(rule, n) is a sum of n. A rule with /n is for problems of n columns. What is no rule is
# a function of numpy. All of it is text, so that a form can be read and added without reading any code.
_RULES = """
one: 45 1.0 | 38.5 1 | 16.5 P
scaled(x): 75 P*x | 25 x
shifted(x): 75 x - P | 25 x
low(x): 70 x | 23 x**2 | 7 x**3
monomial(x): 45 x | 25 x**2 | 23 x**3 | 4 x**4 | 3 x**5

wave(x): 90 plain_wave(x) | 10 plain_wave(x)**2
plain_wave(x): 55 sin(phase(x)) | 45 cos(phase(x))
phase(x): 34 x | 38 P*x | 18 P*x + P | 6 P*(x - P) | 4 multiple*x
multiple: 1 2 | 1 3 | 1 0.5 | 1 np.pi | 1 2.0
exponential(x): 12 exp(x) | 13 exp(-x) | 30 exp(P*x) | 35 exp(-P*x) | 5 one - exp(-P*x) | 5 exp(-x/P)
bump(x): 10 exp(-x**2) | 20 exp(-P*x**2) | 25 exp(-P*(x - P)**2) | 10 exp(-((x - P)/P)**2) |
  20 exp(-P*abs(shifted(x))) | 5 exp(-abs(x - P)) | 6 one/(1.0 + P*shifted(x)**2) |
  2 one/(1.0 + P*shifted(x)**3) | 2 one/(1.0 + P*shifted(x)**4)
saturation(x): 19 x/(P + x) | 19 x/(x + P) | 10 x/(one + x) | 10 x/(1.0 + P*x) | 10 x**2/(P + x**2) |
  7.2 x**N/(P**N + x**N) | 10.8 x**N/(P + x**N) | 14 x/(P + x + x**2/P)
inhibition(x): 25 1.0/(1.0 + P*x) | 15 1.0/(1.0 + x/P) | 10 1.0/(P + x) | 10 1.0/(1.0 + P*x**2) |
  5 1.0/(1.0 + P*x**3) | 10 1.0/(1.0 + (x/P)**P) | 10 P/(P + x) | 8 1.0/x | 7 x**-P
step(x): 15 tanh(x) | 30 tanh(P*x) | 20 tanh(P*(x - P)) | 5 arctan(scaled(x)) |
  21 1.0/(1.0 + exp(-P*(x - P))) | 9 1.0/(1.0 + exp(-P*x))
shape(x): 20 x - P | 14 1.0 - x/P | 10 1.0 - P*x | 4 1.0 - x**P | 6 1.0 - P*x**P | 4 P + x**P | 6 P + P*x**P |
  8 1.0 + P*x | 8 P + P*x + P*x**2 | 8 (x - P)**2 | 6 (x - P)*(P - x) | 6 P + P*log(x)
free_power(x): 35 x**P | 30 abs(x)**P | 10 abs(x - P)**P | 7.5 sqrt(abs(x)) | 7.5 sqrt(x) | 10 (x + P)**P
logarithm(x): 25 log(x) | 12.5 log(x + P) | 12.5 log(1.0 + P*x) | 7.5 log1p(x) | 17.5 log1p(abs(x)) |
  12.5 log(abs(x) + 1.0) | 12.5 log(abs(x) + P)
kink(x): 40 abs(x) | 10 abs(x - P) | 15 maximum(x - P, 0.0) | 10 minimum(x, P) | 10 x*abs(x) | 5 sign(x) |
  2.5 where(x < P, P, P) | 2.5 where(x > P, P, P) | 2.5 where(x < P, P*x, P) | 2.5 where(x > P, P*x, P)
arrhenius(x): 40 exp(-P/x) | 35 exp(-P/(x + P)) | 15 exp(P*(1.0/P - 1.0/x)) | 10 P**((x - P)/10.0)
hyperbolic(x): 2 sinh(scaled(x)) | 1 cosh(scaled(x)) | 1 arcsinh(scaled(x)) | 1 tan(scaled(x))

factor(x): 13 monomial(x) | 4 wave(x) | 7 exponential(x) | 10 bump(x) | 12 saturation(x) | 6 inhibition(x) |
  8 step(x) | 12 shape(x) | 8 free_power(x) | 2 logarithm(x) | 3 kink(x) | 3.5 arrhenius(x)
curve(x): 8 wave(x) | 6 exponential(x) | 2.5 bump(x) | 2.5 saturation(x) | 1.5 inhibition(x) | 3 step(x) |
  2.5 free_power(x) | 1.5 logarithm(x) | 3 kink(x)
term_factor(x): 20 monomial(x) | 9 wave(x) | 6.5 exponential(x) | 2.5 bump(x) | 3 saturation(x) |
  1.5 inhibition(x) | 3 step(x) | 1 shape(x) | 3 free_power(x) | 1.6 logarithm(x) | 3.4 kink(x) |
  0.6 arrhenius(x) | 0.5 hyperbolic(x)
pair(x, y): 7 x/y | 7 x/(P + y) | 8 x/(1.0 + P*y) | 10 bent(coupled(x, y)) | 5 sin(scaled(x) + scaled(y)) |
  5 cos(scaled(x) + scaled(y)) | 4.8 x - y | 3.2 (x - y)**2 | 5 exp(-P*x*y) | 5 exp(-P*x/y) |
  8 sqrt(x**2 + y**2) | 3.2 abs(x*y) | 4.8 abs(x - y) | 12 x**P*y**P | 6 tanh(P*x + P*y) |
  3 maximum(x, y) | 3 minimum(x, y)
coupled(x, y): 40 P*x*y | 60 x*y
bent(a): 1 sin(a) | 1 cos(a) | 1 tanh(a)

term: 90 P*core | 5 core | 5 -(P*core)
core/1: 44 monomial(any) | 22 curve(any) | 10 same(any) | 10 low(any)*curve(any) |
  6 term_factor(any)*term_factor(any) | 8 term_factor(any)
core/2: 27 monomial(any) | 17 powers(two) | 22 curve(any) | 10 same(any) | 10 low(any)*curve(any) |
  6 term_factor(any)*term_factor(any) | 2.5 pair(two) | 2.5 swapped(two) | 3 term_factor(any)
core/3: 27 monomial(any) | 17 powers(two) | 22 curve(any) | 10 same(any) | 10 low(any)*curve(any) |
  6 term_factor(any)*term_factor(any) | 2.5 pair(two) | 2.5 swapped(two) | 3 powers3(three)
same(x): 1 low(x)*curve(x)
swapped(x, y): 1 pair(y, x)
powers(x, y): 1 low(x)*low(y)
powers3(x, y, z): 1 low(x)*low(y)*low(z)

sum_of(n): 70 many(term, n) | 30 many(term, n) + P
whole_sum: 1 sum_of(terms)
terms: 2 1 | 8 2 | 14 3 | 18 4 | 19 5 | 16 6 | 12 7 | 7 8 | 4 9
mostly_one: 2 1 | 1 2
few: 1 1 | 2 2 | 1 3
small: 60 sum_of(few) | 40 product
composed: 15 many(product, mostly_one) + term | 7.5 many(product, mostly_one) + many(term, 2) |
  7.5 many(product, mostly_one) + many(term, 3) |
  6 small*(P + term) | 6 small*(1.0 + term) |
  2.7 low(any)*sum_of(2) | 2.7 low(any)*sum_of(3) | 2.6 low(any)*sum_of(4) |
  6 small/(1.0 + many(term, mostly_one)) | 4 small/(P + many(term, mostly_one)) |
  10.5 minimum(small, small) | 3.5 maximum(small, small) |
  5.5 where(any < P, small, small) | 5.5 where(any > P, small, small) |
  6 P*outer(sum_of(few)) | 3 P*outer(sum_of(few)) + term | 3 P*outer(sum_of(few)) + many(term, 2) |
  3 P*outer(sum_of(few)) + many(term, 3)
outer(a): 2 tanh(a) | 2 exp(a) | 1 sin(a) | 1 cos(a) | 1 log1p(abs(a)) | 1 sqrt(abs(a))

new_curve(x): 60 factor(x) | 40 curve(x)
freed(x): 1 P*x | 1 x - P
raised(x): 2 x**2 | 1 x**3
other_power(x): 30 x | 15 x**2 | 15 x**3 | 15 x**4 | 25 x**P
fixed: 2 1.0 | 1 0.5 | 1 2.0
short: 1 1 | 1 2
wrapped(a): 30 minimum(a, sum_of(short)) | 7.5 where(any < P, a, P) | 7.5 where(any > P, a, P) |
  7.5 where(any < P, a, sum_of(short)) | 7.5 where(any > P, a, sum_of(short)) |
  20 a/(1.0 + term) | 20 a*(1.0 + term)
"""

# what these draw is drawn again where signed columns forbid it, and given up for the plain product at last
_TAMED = ("factor", "curve", "term_factor", "pair")
_TRIES = 8
_DIFFERENT = {("?", "two"): 2, ("?", "three"): 3}  # columns that a rule is given
_PREFERRED = 0.55  # share of one-column forms that follow the kind of the column, where that is known


@dataclass(frozen=True)
class Rule:
    """The alternatives of one rule with their cumulated weights; `names` are what it is given."""

    names: tuple[str, ...]
    forms: tuple[Tree, ...]
    weights: tuple[float, ...]


def read_rules(text: str) -> dict[str, Rule]:
    """The rules of a text in the manner of the table above, by name."""
    rules = {}
    for line in re.sub(r"\|\n", "| ", text).strip().splitlines():
        if line.strip():
            head, alternatives = line.split(":", 1)
            name, *names = re.findall(r"[\w/]+", head)
            pairs = [part.split(maxsplit=1) for part in alternatives.split("|")]
            weights = tuple(accumulate(float(weight) for weight, _ in pairs))
            rules[name] = Rule(tuple(names), tuple(_form(form) for _, form in pairs), weights)
    return rules


def _form(text: str) -> Tree:
    """A form as a tree, in which names and calls of rules stand as they are."""
    with_module = re.sub(
        r"\b([a-z]\w*)\(", r"np.\1(", text
    )  # the one manner of calls that trees are read from
    node = ast.parse(with_module, mode="eval").body
    names = {part.id: ("?", part.id) for part in ast.walk(node) if isinstance(part, ast.Name)}
    return tree_of(node, names | {"P": P})


RULES = read_rules(_RULES)


@dataclass(frozen=True)
class Inputs:
    """What the grammar may know of the columns; only their number is needed.

    `signed` numbers those that can be negative. `kinds` has, for each column, a rule of the forms that
    textbooks use for such a quantity, or None; `product` is the share of product forms.
    """

    count: int
    signed: frozenset[int] = frozenset()
    kinds: tuple[Rule | None, ...] = ()
    product: float | None = None


def draw(rng: Random, name: str, inputs: Inputs, *args: Tree) -> Tree:
    """A tree of the rule called `name`, given the trees that it takes."""
    if name == "product":
        return _product(rng, inputs)
    rule = RULES.get(f"{name}/{min(inputs.count, 3)}") or RULES[name]
    if name not in _TAMED:
        return _grown(rng, rule, inputs, args)
    column = args[0][1]
    if len(args) == 1 and inputs.kinds and rng.random() < _PREFERRED:
        rule = inputs.kinds[column] or rule
    # drawing again is cheaper than forms that know of signs
    for _ in range(_TRIES):
        tree = _grown(rng, rule, inputs, args)
        if tame(tree, inputs.signed) or (len(args) == 1 and column not in inputs.signed):
            return tree
    return made("*", *args)


def _grown(rng: Random, rule: Rule, inputs: Inputs, args: tuple[Tree, ...]) -> Tree:
    """One of the rule's forms, at random, with everything in it filled in."""
    given = dict(zip(rule.names, args, strict=True))

    def columns(count: int) -> list[Tree]:
        return [("v", i) for i in sorted(rng.sample(range(inputs.count), count))]

    def fill(form: Tree) -> Tree:
        head, *inner = form
        if head in LEAVES:
            return form
        if head == "?":
            return named(inner[0])
        if head == "many":
            return made("+", *(fill(inner[0]) for _ in range(int(fill(inner[1])[1]))))
        if head in RULES:
            different = _DIFFERENT.get(inner[0])
            parts = columns(different) if different else [fill(part) for part in inner]
            return draw(rng, head, inputs, *parts)
        return made(head, *map(fill, inner))

    def named(name: str) -> Tree:
        if name in given:
            return given[name]
        if name == "N":
            return given.setdefault("N", ("p", rng.getrandbits(30) + 1))
        return ("v", rng.randrange(inputs.count)) if name == "any" else draw(rng, name, inputs)

    return fill(rng.choices(rule.forms, cum_weights=rule.weights)[0])


def _product(rng: Random, inputs: Inputs) -> Tree:
    """An amplitude times about one factor for each variable."""
    order = list(range(inputs.count))
    if rng.random() < 0.2:
        rng.shuffle(order)
    used = [i for i in order if rng.random() < 0.88] or [rng.randrange(inputs.count)]
    factors = [P] if rng.random() < 0.9 else []
    for i in used:
        twice = rng.random() < (0.28 if inputs.count < 4 else 0.16)
        factors += [draw(rng, "factor", inputs, ("v", i)) for _ in range(1 + twice)]
    # some laws have a factor of two variables at once
    if inputs.count > 1 and rng.random() < 0.06:
        first, second = sorted(rng.sample(range(inputs.count), 2))
        factors.append(draw(rng, "pair", inputs, ("v", first), ("v", second)))
    return made("*", *factors)


def random_tree(rng: Random, inputs: Inputs) -> Tree:
    """A skeleton drawn from the whole grammar; it uses at least one of the inputs."""
    product = inputs.product
    if product is None:
        product = 0.2 if inputs.count < 3 else 0.3
    (name,) = rng.choices(("composed", "product", "whole_sum"), (0.16, product, 0.84 - product))
    while True:
        tree = draw(rng, name, inputs)
        if variables(tree) and tame(tree, inputs.signed):
            return tree


def _loose(tree: Tree, signed: frozenset[int]) -> bool:
    """Whether the tree can be negative because a signed input is."""
    if tree[0] == "v":
        return tree[1] in signed
    if tree[0] in ("abs", "exp", "cosh") or (tree[0] == "^" and tree[2] in (("c", "2"), ("c", "4"))):
        return False
    if tree[0] == "^" and tree[2][0] == "c":
        return _loose(tree[1], signed)
    return any(_loose(child, signed) for child in children(tree))


def tame(tree: Tree, signed: frozenset[int]) -> bool:
    """Whether no root, logarithm, free power or denominator meets the bare value of a signed input."""
    if not signed:
        return True
    match tree:
        case ("/", _, below) if _loose(below, signed):
            return False
        case ("^", base, exponent) if (exponent[0] != "c" or exponent[1] == "0.5") and _loose(base, signed):
            return False
        case ("sqrt" | "log" | "log1p", argument) if _loose(argument, signed):
            return False
    return all(tame(child, signed) for child in children(tree))
