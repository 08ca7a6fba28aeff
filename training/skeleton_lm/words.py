"""Names, sentences and headers of random specs, in the manner of LLM-SR's file format."""

from __future__ import annotations

import keyword
import textwrap
from dataclasses import dataclass
from random import Random

from vocabulary import (
    ADJECTIVES,
    GREEK,
    KIND_WORDS,
    LETTERS,
    OBJECTS,
    PRODUCT_WORDS,
    QUANTITIES,
    SUM_WORDS,
    SYLLABLES,
    TARGETS,
    UNITS,
)

from llmsr.expression.form import Form

NO_LIMITS = Form()
_RESERVED = {"params", "np", "torch", "equation", "MAX_NPARAMS", "PRAMS_INIT", *keyword.kwlist}


def kind_of(text: str) -> str:
    words = set(text.split())
    return next((kind for kind, known in KIND_WORDS if words & set(known.split())), "")


def _product_share(target: str) -> float | None:
    words = set(target.split())
    if words & set(SUM_WORDS):
        return 0.12
    return 0.45 if words & set(PRODUCT_WORDS) else None


@dataclass(frozen=True)
class Words:
    """What `llmsr.prompt.build_prompt` reads of a spec, and what the grammar needs to know."""

    preface: str
    function_name: str
    header: str
    docstring: str
    columns: tuple[str, ...]
    params_name: str
    max_params: int
    signed: frozenset[int]
    module: str
    kinds: tuple[str, ...]
    product: float | None
    form: Form = NO_LIMITS


def random_name(rng: Random) -> str:
    """An identifier that no list holds."""
    draw = rng.random()
    if draw < 0.2:
        name = rng.choice(LETTERS)
    elif draw < 0.35:
        name = f"{rng.choice('xxyuzqwvabc')}{rng.randrange(1, 10)}"
    elif draw < 0.45:
        name = rng.choice(GREEK)
    elif draw < 0.55:
        name = f"{rng.choice(GREEK + list(LETTERS))}_{rng.choice(UNITS)}"
    elif draw < 0.65:
        name = f"{rng.choice(SYLLABLES)}{rng.choice(SYLLABLES)}_{rng.choice(UNITS)}"
    elif draw < 0.75:
        name = f"{rng.choice(SYLLABLES)}{rng.choice(SYLLABLES).title()}"
    elif draw < 0.8:
        name = "".join(rng.choice(LETTERS) for _ in range(rng.choice((2, 3, 4))))
    else:
        name = "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((1, 2, 2, 3))))
    return name


def _columns(rng: Random) -> list[tuple[str, str, bool]]:
    """Name, description and sign of each input."""
    count = rng.choices((1, 2, 3, 4, 5, 6), (7, 33, 27, 22, 7, 4))[0]
    found: list[tuple[str, str, bool]] = []
    taken = set(_RESERVED)
    signed_share = rng.choice((0.1, 0.35, 0.7))
    anonymous = rng.random() < 0.12
    while len(found) < count:
        if anonymous:
            signed = rng.random() < 0.7
            text = rng.choice(("first input", "input", "feature", "variable", "predictor", "measured value"))
            name = f"x{len(found)}" if rng.random() < 0.3 else random_name(rng)
        else:
            text, sign, names = rng.choice(QUANTITIES)
            signed = sign == "-"
            if signed != (rng.random() < signed_share):
                continue
            name = rng.choice(names.split()) if rng.random() < 0.72 else random_name(rng)
        if name in taken or (not anonymous and any(text == other for _, other, _ in found)):
            continue
        taken.add(name)
        found.append((name, text, signed))
    return found


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _thing(rng: Random) -> str:
    thing = rng.choice(OBJECTS)
    return f"{rng.choice(ADJECTIVES)} {thing}" if rng.random() < 0.3 else thing


def _task(rng: Random, target: str, thing: str, texts: list[str]) -> str:
    the = [f"the {text}" if rng.random() < 0.7 else text for text in texts]
    given = _listed(the)
    skeleton = "Find the mathematical function skeleton that represents"
    of = rng.choice((f" of the {thing}", f" of a {thing}", f" in a {thing}", f" in a {thing} system", ""))
    return rng.choice(
        (
            f"Find an equation for the {target}{of}, given {given}.",
            f"Find an equation for the {target}{of}, given its {_listed(texts)}.",
            f"Find an equation for {target}{of}, given {given}.",
            f"{skeleton} {target}{of}, given data on {_listed(texts)}.",
            f"{skeleton} the {target}{of}, given data on {given}.",
            f"Find a formula that predicts the {target}{of} from {given}.",
            f"Discover the law that governs the {target}{of} as a function of {given}.",
            f"The {target}{of} depends on {given}. Find an equation.",
            f"Symbolic regression: {target}{of} from {_listed(texts)}.",
            f"Model the {target}{of} with a closed-form expression of {given}.",
        )
    )


def _preface(rng: Random, task: str, most: int, torch: bool) -> str:
    width = rng.choice((80, 100, 112, 118, 200))
    task = textwrap.fill(task, width)
    if rng.random() < 0.12:
        task += "\n" + rng.choice(
            (
                "All quantities are in SI units.",
                "The data are measured.",
                "The constants are fitted to the data.",
                "Keep the equation short.",
                "Use at most ten constants.",
                "The data hold noise.",
                "Physical knowledge may be used.",
            )
        )
    quotes = rng.choice(('"""\n{}\n"""', '"""\n{}\n"""', '"""{}"""', '"""{}\n"""'))
    imports = ["import numpy as np"]
    if torch:
        imports.append("import torch")
    if not torch or rng.random() < 0.2:
        imports.append(
            rng.choice(("from scipy.optimize import minimize", "from scipy.optimize import minimize", ""))
        )
    if rng.random() < 0.1:
        imports.append(
            rng.choice(("import math", "import scipy", "import pandas as pd", "from typing import Any"))
        )
    comment = rng.choice(
        (
            "# the constants of an equation: at most MAX_NPARAMS, fitted from PRAMS_INIT",
            "# Initialize parameters",
            "#Initialize parameters",
            "# number of free constants",
            "",
            "",
        )
    )
    stars = " * " if rng.random() < 0.6 else "*"
    initial = rng.choice(
        (f"PRAMS_INIT = [1.0]{stars}MAX_NPARAMS",) * 4 + (f"PARAMS_INIT = [1.0]{stars}MAX_NPARAMS", "")
    )
    lines = [quotes.format(task), "", *(line for line in imports if line), ""]
    lines += [line for line in (comment, f"MAX_NPARAMS = {most}", initial) if line]
    text = "\n".join(lines)
    return (
        text
        if rng.random() < 0.97
        else quotes.format(task) + "\n\n" + "\n".join(line for line in imports if line)
    )


def _docstring(rng: Random, columns: list, target: str, thing: str, params: str) -> str:
    row = rng.choice((", one number per row", "", "", " (array)", ", shape (rows,)", ", in scaled units"))
    texts = [f"{text} of the {thing}" if rng.random() < 0.35 else text for _, text, _ in columns]
    first = rng.choice(
        (
            f"Equation for the {target} of the {thing}.",
            f"Equation for the {target}.",
            f"Mathematical function for {target} in a {thing}",
            f"The {target} of the {thing}.",
            f"{target.capitalize()} as a function of {_listed([name for name, _, _ in columns])}.",
            f"Return the {target}.",
        )
    )
    draw = rng.random()
    free = rng.choice(
        (
            "the free constants of the equation, fitted to the data.",
            "Array of numeric constants or parameters to be optimized",
            "free constants.",
            "constants to be fitted",
        )
    )
    if draw < 0.62:
        kind = rng.choice(("A numpy array representing observations of ", "", "", ""))
        stop = rng.choice((".", ""))
        args = [
            f"        {name}: {kind}{text}{row}{stop}"
            for (name, _, _), text in zip(columns, texts, strict=True)
        ]
        args.append(f"        {params}: {free}")
        end = rng.choice(("Return", "Returns", "Return"))
        result = rng.choice(
            (
                f"        {target} of the {thing}{row}{stop}",
                f"        {target}{row}{stop}",
                f"        A numpy array representing {target} as the result of the function.",
            )
        )
        gap = "\n" if rng.random() < 0.7 else ""
        args_text, close = "\n".join(args), rng.choice(("\n    ", "\n    ", ""))
        return f"{first}\n{gap}\n    Args:\n{args_text}\n{gap}\n    {end}:\n{result}{close}".replace(
            "\n\n\n", "\n\n"
        )
    if draw < 0.72:
        lines = "\n".join(f"    {name} : {text}" for (name, _, _), text in zip(columns, texts, strict=True))
        return f"{first}\n\n    Parameters\n    ----------\n{lines}\n    {params} : {free}\n    "
    if draw < 0.82:
        listed = "; ".join(f"{name}: {text}" for (name, _, _), text in zip(columns, texts, strict=True))
        return f"{first} {listed}."
    return first if draw < 0.96 else ""


def _header(rng: Random, names: list[str], function: str, params: str, torch: bool) -> str:
    kind = "torch.Tensor" if torch else "np.ndarray"
    draw = rng.random()
    if draw < 0.12:
        return f"def {function}({', '.join([*names, params])}):"
    typed = [f"{name}: {kind}" for name in (*names, params)]
    arrow = f" -> {kind}" if draw < 0.9 else ""
    line = f"def {function}({', '.join(typed)}){arrow}:"
    if len(line) > 112 and rng.random() < 0.5:
        return (
            f"def {function}(\n    {', '.join(typed)},\n){arrow}:"
            if draw < 0.5
            else (f"def {function}(\n" + "".join(f"    {item},\n" for item in typed) + f"){arrow}:")
        )
    return line


def random_words(rng: Random) -> Words:
    """The words of one random spec."""
    columns = _columns(rng)
    names = [name for name, _, _ in columns]
    target, thing = rng.choice(TARGETS), _thing(rng)
    torch = rng.random() < 0.07
    most = 10 if rng.random() < 0.78 else rng.choice((3, 4, 5, 6, 7, 8, 8, 9, 12, 15, 20))
    params = "params" if rng.random() < 0.95 else rng.choice(("coef", "c_", "p_", "consts", "weights"))
    function = "equation" if rng.random() < 0.94 else rng.choice(("f", "model", "rate", "law", "func"))
    texts = [text for _, text, _ in columns]
    return Words(
        preface=_preface(rng, _task(rng, target, thing, texts), most, torch),
        function_name=function if function not in names else "equation",
        header=_header(rng, names, function if function not in names else "equation", params, torch),
        docstring=_docstring(rng, columns, target, thing, params),
        columns=tuple(names),
        params_name=params,
        max_params=most,
        signed=frozenset(i for i, (_, _, signed) in enumerate(columns) if signed),
        module="torch" if torch else "np",
        kinds=tuple(kind_of(text) for text in texts),
        product=_product_share(target),
    )
