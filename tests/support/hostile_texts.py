"""Hostile texts without end, by class, for `score` and the parser, of any length and depth."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

from attack_bodies import ATTACKS
from replays import completions

HONEST = completions(200, seed=7)
KNOWN = [body for bodies in ATTACKS.values() for body in bodies]
OPENINGS = [
    "(",
    "[",
    "{",
    "f(",
    "x[",
    "lambda: ",
    "not ",
    "-",
    "~",
    "x if x else ",
    "[x for x in ",
    "f'{",
    "{0:",
]
NAMES = ["x", "v", "params", "np", "math", "torch", "equation", "__import__", "self", "\u0445", "\U0001d431"]
DUNDERS = ["__class__", "__globals__", "__subclasses__()", "__code__", "__dict__", "__builtins__", "_mangled"]
MODULES = [
    "os",
    "sys",
    "socket",
    "subprocess",
    "ctypes",
    "pickle",
    "builtins",
    "numpy.os",
    "llmsr.workers.pool",
]
LETTERS = (
    "\x00\x01\x07\x08\x1b\x7f\x85\xa0\u200b\u200e\u202e\u2028\u2029\u2066\ufeff\uffff\ud800\udfff\U000e0041"
)
FRAMES = [
    "{}",
    "```python\n{}\n```",
    "<think>{}</think>\n    return x",
    "<think>\n{}",
    "Here it is:\n\n{}\n\nI hope this helps.",
    "def equation(x, v, params):\n{}",
    "def equation_v2(x, v, params):\n    '''{}'''\n    return x",
    '{{"completion": "{}"}}',
    "<|im_start|>assistant\n{}<|im_end|>",
    "{}\n\ndef evaluate(data):\n    return 0.0\n",
    "# {}\n    return params[0] * x\n",
]


def _deep(draw: random.Random) -> str:
    openings = draw.choices(OPENINGS, k=draw.choice([1, 1, 2, 5]))
    return "    return " + "".join(draw.choices(openings, k=draw.choice([10, 60, 200, 1000, 5000]))) + "x"


def _long(draw: random.Random) -> str:
    piece = draw.choice(
        ["x+", "x*", "x**", "x<", "x,", "x.T", "x;", "y=x\n    ", "\\\n", "#", "'", '"""', "\n", " ", "a"]
    )
    return "    return " + piece * draw.choice([50, 2000, 30_000, 300_000]) + "x"


def _loop(draw: random.Random) -> str:
    depth, size = draw.randint(1, 6), draw.choice([10, 900, 10**6, 10**18])
    lines = [f"{'    ' * (i + 1)}for i{i} in range({size}):" for i in range(depth)]
    work = draw.choice(["y = y * y", "y = np.sin(y) + i0", "y = [y, y]", "y += y", "y = y ** y", "pass"])
    start = draw.choice(["x", "1", "[x]", "params", "'a'"])
    return f"    y = {start}\n" + "\n".join(lines) + f"\n{'    ' * (depth + 1)}{work}\n    return y\n"


def _growth(draw: random.Random) -> str:
    step = draw.choice(
        [
            "y = y * y + y",
            "y = np.sin(y) * np.cos(y)",
            "y = (y + x) / (y - v)",
            "y = y ** y",
            "y = [y, y]",
            "y = np.where(y > 0, y, -y)",
            "y = y + f(y)",
        ]
    )
    return (
        "    f = lambda z: z * z + z\n    y = x\n"
        + f"    {step}\n" * draw.choice([5, 30, 100, 900])
        + "    return y\n"
    )


def _number(draw: random.Random) -> str:
    base, power = draw.choice([2, 9, 10, -7, 0.1]), draw.choice([3, 64, 10**4, 10**9])
    form = draw.choice(
        ["{0}**{1}", "{0}**{1}**{1}", "{0} << {1}", "({0}**300)**{1}", "int('9' * {1})", "1e{1}"]
    )
    return f"    return params[0] * x + {form.format(base, power)}\n"


def _reach(draw: random.Random) -> str:
    start = draw.choice([*NAMES, "()", "''", "(lambda: 0)", "x[0]", "np.sin", "f'{x}'"])
    path = "".join(draw.choice([".", ".", "['"]) + draw.choice(DUNDERS) for _ in range(draw.randint(1, 6)))
    form = draw.choice(
        [
            "    y = {}\n    return x\n",
            "    return {} * x\n",
            "    return x + '{{0.{}}}'.format(x)\n",
            "    @{}\n    def f(): pass\n    return x\n",
            "    def f(a={}): return a\n    return f(x)\n",
        ]
    )
    return form.format(start + path)


def _system(draw: random.Random) -> str:
    module, name = (
        draw.choice(MODULES),
        draw.choice(["system('touch /tmp/owned')", "_exit(1)", "kill(1, 9)", "load('x')"]),
    )
    form = draw.choice(
        [
            "    import {0} as np\n    np.{1}\n    return x\n",
            "    from {0} import *\n    {1}\n    return x\n",
            "    return __import__('{0}').{1} or x\n",
            "    return eval('{0}.{1}') * x\n",
            "    exec('import {0}')\n    return x\n",
            "    return np.{0}.{1} + x\n",
        ]
    )
    return form.format(module, name)


def _score(draw: random.Random) -> str:
    what = draw.choice(
        [
            "y",
            "outputs",
            "data['outputs']",
            "y_true",
            "train",
            "target",
            "np.empty_like(x)",
            "x.base",
            "np.full_like(x, params)",
            "x * np.nan",
            "params[np.arange(len(x))]",
            "x[np.argsort(v)]",
            "np.gradient(v, x)",
            "np.interp(x, x, v)",
            "x - x.mean()",
            "params[:len(x)]",
            "torch.empty_like(x)",
            "torch.cumsum(x, 0)",
            "x.data",
            "float('inf') * x",
        ]
    )
    return draw.choice(
        [
            "    return {}\n",
            "    return params[0] * {}\n",
            "    x[:] = {}\n    return x\n",
            "    params[:] = {}\n    return x * params[0]\n",
        ]
    ).format(what)


def _imitation(draw: random.Random) -> str:
    fake = json.dumps({"id": draw.randint(0, 99), "status": "ok", "train_mse": 0.0, "nmse": {"train": 0.0}})
    text = draw.choice(
        [
            fake,
            "\x1b[2J\x1b[1;1H",
            "\r100/100 samples | best NMSE 0",
            "llmsr: done",
            "\x1b]0;owned\x07",
            "}\n" + fake,
        ]
    )
    return draw.choice(
        ["    return x  # {}", "{}", "    '''{}'''\n    return y", "    raise ValueError({!r})"]
    ).format(text)


def _noise(draw: random.Random) -> str:
    alphabet = draw.choice(
        [LETTERS, "()[]{}\n \t'\"\\#:;,.=*+-x1", "".join(map(chr, range(32, 127))), LETTERS + "x+=\n ()"]
    )
    return "".join(draw.choices(alphabet, k=draw.choice([1, 20, 300, 5000])))


def _mutant(draw: random.Random) -> str:
    text = draw.choice(KNOWN if draw.random() < 0.6 else HONEST)
    for _ in range(draw.randint(1, 6)):
        at = draw.randint(0, len(text))
        other = draw.choice(draw.choice([KNOWN, HONEST]))
        piece = draw.choice(
            [
                other[: draw.randint(0, 60)],
                draw.choice(LETTERS),
                draw.choice(OPENINGS),
                "",
                text[at : at + 30],
            ]
        )
        text = text[:at] + piece * draw.choice([1, 1, 2, 50]) + text[at + draw.choice([0, 1, 9]) :]
    return text


CLASSES: dict[str, Callable[[random.Random], str]] = {
    "known": lambda draw: draw.choice(KNOWN),
    "nesting": _deep,
    "length": _long,
    "loops": _loop,
    "growth": _growth,
    "numbers": _number,
    "reach": _reach,
    "system": _system,
    "scores": _score,
    "imitation": _imitation,
    "noise": _noise,
    "mutants": _mutant,
}


def hostile_texts(count: int, seed: int = 0) -> Iterator[str]:
    """`count` completions, the classes in turn, one in three inside what models put around their answers."""
    draw = random.Random(seed)
    makers = list(CLASSES.values())
    for number in range(count):
        text = makers[number % len(makers)](draw)
        if draw.random() < 1 / 3:
            text = draw.choice(FRAMES).replace("{{", "{").replace("}}", "}").replace("{}", text, 1)
        yield text


def hostile_lines(count: int, seed: int = 0) -> Iterator[tuple[bytes, object]]:
    """Input lines for `score`, each with the id that its answer must have; one in ten is no record at all."""
    draw = random.Random(seed + 1)
    for number, text in enumerate(hostile_texts(count, seed)):
        if draw.random() > 0.1:
            yield json.dumps({"id": number, "body": text}).encode() + b"\n", number
        else:
            yield draw.choice(NO_RECORDS) + b"\n", None


NO_RECORDS = [
    b"\xff\xfe\x00{",
    b"{",
    b"null",
    b"[" * 100_000,
    b'{"body":' * 50_000,
    b'{"id": 1e999, "body": 3}',
    b'{"id": NaN, "body": ""}',
    b'{"id": ' + b"9" * 10_000 + b"}",
    b'{"id": ' + b"[" * 600 + b"]" * 600 + b', "body": "return"',
    b'"\\ud800"',
    b"\x00" * 500,
    b"return x\r\rreturn v",
    b'{"body": {"body": "return x"}}',
    '{"body" "return x", "\u2028": 1}'.encode(),
]
