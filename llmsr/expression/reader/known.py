"""How known functions are called, and what Python's own do that the prelude cannot say."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any

from llmsr.expression.reader.arrays import expand
from llmsr.expression.reader.indexing import COMBINE, reduced, whole
from llmsr.expression.reader.numpy_functions import into, kind_of
from llmsr.expression.reader.statements import Interpreter
from llmsr.expression.reader.values import (
    NUMBERS,
    Array,
    Closure,
    Frame,
    List,
    Native,
    Once,
    Refused,
    RowCount,
    Table,
    checked,
    describe,
    names_of_arguments,
    names_set_in,
    refuse_if,
)

Cellwise = Callable[..., Array]
Rows = dict[str, tuple[int, Cellwise]]
"""Functions of every cell by name: the number of arguments, and what makes an array of arrays."""


def named(text: str) -> dict[str, str]:
    """What words `name` or `name=its name here` say."""
    pairs = (word.partition("=") for word in text.split())
    return {name: there or name for name, _, there in pairs}


def aliases(table: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Rows of another table under the names that `text` gives them."""
    return {name: table[there] for name, there in named(text).items()}


# ---- functions with a signature


# a signature takes longer to find than most functions take to run
@lru_cache(maxsize=1024)
def signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def native(name: str, function: Callable[..., Any]) -> Native:
    """A function whose arguments follow the signature of `function(on, ...)`; others are refused."""

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            bound = signature(function).bind(on, *args, **kwargs)
        except TypeError as error:
            raise Refused(f"{name} cannot be called like this: {error}") from None
        return function(*bound.args, **bound.kwargs)

    return Native(name, call)


def natives(label: str, table: Mapping[str, Callable[..., Any]]) -> dict[str, Native]:
    return {name: native(label + name, function) for name, function in table.items()}


def ours(label: str, module: Any, text: str) -> dict[str, Native]:
    """Functions of a module of ours under the names that `text` gives them."""
    return natives(label, {name: getattr(module, there) for name, there in named(text).items()})


def refused(label: str, names: Iterable[str], why: str) -> dict[str, Native]:
    """Functions that are known but cannot be part of an equation."""

    def refuse(on: Interpreter, args: list[Any], kwargs: dict[str, Any], name: str) -> Any:
        raise Refused(f"{label}{name} {why}")

    return {name: Native(label + name, partial(refuse, name=name)) for name in names}


# ---- functions of the prelude

PRELUDE = Frame(frozenset(), None)
"""The functions of `prelude`, as a body's own functions are kept."""


def closure(name: str, node: ast.FunctionDef | ast.Lambda) -> Closure:
    """A function of the prelude, whose defaults are constants."""
    local_names = names_of_arguments(node.args)
    if isinstance(node, ast.FunctionDef):
        local_names |= names_set_in(node.body)
    defaults = tuple(ast.literal_eval(default) for default in node.args.defaults)
    by_name = tuple(d and ast.literal_eval(d) for d in node.args.kw_defaults)
    return Closure(name, node.args, node.body, local_names, defaults, by_name, PRELUDE, True)


# read as text and never imported: the one interpreter runs what a body calls and what we write
for _node in ast.parse(files(__package__).joinpath("prelude.py").read_text(encoding="utf-8")).body:
    if isinstance(_node, ast.FunctionDef):
        PRELUDE.names[_node.name] = closure(_node.name, _node)
    elif isinstance(_node, ast.Assign) and isinstance(_node.value, ast.Lambda):
        _name = ast.unparse(_node.targets[0])
        PRELUDE.names[_name] = closure(_name, _node.value)

ARRAYS = named("x y a b c p v ary bins xp input coef c_or_r").keys()
"""What arguments of the prelude's functions are called that are arrays."""


def prelude(there: str, name: str = "") -> Native:
    """A function of the prelude; numbers and lists given for its arrays become arrays."""
    function: Closure = PRELUDE.names[there]
    given = [a.arg for a in (*function.arguments.posonlyargs, *function.arguments.args)]

    def lifted(on: Interpreter, argument: str, value: Any) -> Any:
        return on.array(value) if argument in ARRAYS and isinstance(value, (List, tuple, *NUMBERS)) else value

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Any:
        args = [lifted(on, *pair) for pair in zip(given, args, strict=False)] + args[len(given) :]
        return on.apply(function, args, {key: lifted(on, key, value) for key, value in kwargs.items()})

    return Native(name or there, call)


def preludes(text: str) -> dict[str, Native]:
    """Functions of the prelude under the names that `text` gives them."""
    return {name: prelude(there, name) for name, there in named(text).items()}


# ---- functions of every cell


def composed(name: str) -> Cellwise:
    """A function of the prelude, which numpy would compute in half precision for booleans alone."""
    function = prelude(name)

    def call(on: Interpreter, *arrays: Array) -> Array:
        on.no_booleans(*arrays)
        return on.array(function.call(on, list(arrays), {}))

    return call


def by(method: str, *first: str) -> Cellwise:
    """The method of `Arrays` of that name, called with `first` before the arrays."""
    return lambda on, *arrays: getattr(on, method)(*first, *arrays)


def cellwise(table: str) -> Rows:
    """Rows of a table of functions: a line has their arity, the method that makes them, and their names."""
    rows: Rows = {}
    for line in table.strip().splitlines():
        arity, method, names = line.split(maxsplit=2)
        make = composed if method == "prelude" else by if method == "itself" else partial(by, method)
        rows |= {name: (int(arity), make(there)) for name, there in named(names).items()}
    return rows


def ufunc(name: str, arity: int, function: Cellwise) -> Native:
    """A function of `arity` arrays that works on every cell, with `out=`, `where=` and `dtype=float`."""

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Array:
        others = dict(kwargs)
        dtype, out, where = others.pop("dtype", None), others.pop("out", None), others.pop("where", True)
        # numpy's ufuncs take the array for the result as the next positional argument too
        if len(args) == arity + 1 and isinstance(args[-1], Array) and out is None:
            *args, out = args
        if others or (dtype is not None and kind_of(dtype, "f") != "f"):
            raise Refused(f"{name} with the keyword {next(iter(others), 'dtype')}")
        if len(args) != arity:
            raise Refused(f"{name} takes {arity} argument{'s' * (arity > 1)}, not {len(args)}")
        result = function(on, *(on.array(a) for a in args))
        return result if out is None and where is True else into(on, name, result, out, where)

    return Native(name, call)


def ufuncs(label: str, table: Rows) -> dict[str, Native]:
    return {name: ufunc(label + name, *row) for name, row in table.items()}


REDUCERS = named("add=sum multiply=prod maximum=max minimum=min logical_and=all logical_or=any")


def ufunc_reduce(on: Interpreter, ufunc: Native, array: Any, axis: Any = 0) -> Array:
    """`np.add.reduce` and the like."""
    label = f"{ufunc.name}.reduce"
    name = REDUCERS.get(ufunc.name.removeprefix("np."), "")
    refuse_if(not name, f"{label} is not supported")
    return reduced(on, on.array(array), axis, False, label, COMBINE[name])


def ufunc_outer(on: Interpreter, ufunc: Native, a: Any, b: Any) -> Array:
    """`np.multiply.outer` and the like."""
    left, right = on.array(a), on.array(b)
    for _ in range(right.ndim):
        left = expand(left, left.ndim)
    return on.array(ufunc.call(on, [left, right], {}))


def from_math(name: str, arity: int, function: Cellwise) -> Native:
    """math's function: Python's own on numbers known now, the function of every cell on arrays."""
    plainly = getattr(math, name)

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if name == "log" and len(args) == 2:
            return on.binary("/", *(call(on, [a], kwargs) for a in args))
        refuse_if(len(args) != arity or kwargs, f"math.{name} takes {arity} argument{'s' * (arity > 1)}")
        # math is not numpy: other rounding in the last digit, and errors instead of nan
        if all(isinstance(a, NUMBERS) for a in args):
            try:
                return checked(plainly(*args), on.limits)
            except (ArithmeticError, ValueError) as error:
                raise Refused(f"math.{name} of a constant fails: {error}") from None
        on.kindly(f"math.{name} of data")
        arrays = [numeric(on, a, f"math.{name}") for a in args]
        # an integer counts as one in indices, ranges and powers, which a parameter cannot
        if name in ("floor", "ceil", "trunc") and arrays[0].ndim == 0:
            raise Refused(f"math.{name} of a parameter gives a Python integer (use np.{name})")
        return function(on, *(on.copy(a, "f") if a.kind != "f" else a for a in arrays))

    return Native(f"math.{name}", call)


def renamed(known: Native) -> Native:
    """numpy's function with the names that torch gives to its arguments."""

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Any:
        names = {"dim": "axis", "keepdim": "keepdims", "input": "", "tensors": "", "device": "-"}
        args = [value for name, value in kwargs.items() if names.get(name) == ""] + args
        kwargs = {names.get(n, n): v for n, v in kwargs.items() if names.get(n, n) not in ("", "-")}
        return known.call(on, args, kwargs)

    return Native(known.name.replace("np.", "torch."), call)


# ---- Python's


def numeric(on: Interpreter, x: Any, name: str) -> Array:
    """An array or number, where Python takes no list."""
    if not isinstance(x, (Array, *NUMBERS)):
        raise Refused(f"{name} of {describe(x)}")
    return on.array(x)


def abs_(on: Interpreter, x: Any, /) -> Any:
    return abs(x) if isinstance(x, NUMBERS) else on.keep_kind("abs", numeric(on, x, "abs"))


def round_(on: Interpreter, number: Any, ndigits: Any = None) -> Any:
    """Python's round of a number known now."""
    known = on.constant(on.array(number)) if isinstance(number, Array) else number
    if not isinstance(known, NUMBERS) or not isinstance(ndigits, (int, type(None))):
        raise Refused("round of data (use np.round)")
    refuse_if(not math.isfinite(known) or abs(ndigits or 0) > 400, "round of infinity, or to so many digits")
    return checked(round(known, ndigits), on.limits)


def float_(on: Interpreter, x: Any = 0.0, /) -> Any:
    if isinstance(x, str) and x.strip().lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return float(x)
    a = numeric(on, x, "float")
    if a.ndim:
        on.kindly("float of an array")
    known = on.constant(a)
    return on.copy(a, "f") if known is None else float(known)


def bool_(on: Interpreter, x: Any = False, /) -> Any:
    truth = on.truth(x)
    return on.python_bool("ne", truth, on.number(0)) if isinstance(truth, Array) else truth


def all_or_any(op: str) -> Callable[..., Any]:
    """all or any: what comes behind an item that depends on data is looked at as if Python did the same."""

    def function(on: Interpreter, iterable: Any, /) -> Any:
        result: Any = op == "and"
        for item in on.iterate(iterable):
            truth = on.truth(item)
            if isinstance(truth, Array):
                result = truth if isinstance(result, bool) else on.logical(op, result, truth)
            elif truth != (op == "and"):
                return truth  # whatever the items before it are
        return bool_(on, result)

    return function


def len_(on: Interpreter, obj: Any, /) -> Any:
    if isinstance(obj, Array) and obj.ndim:
        return on.shape(obj)[0]
    held = obj.content if isinstance(obj, (List, Table)) else obj
    if not isinstance(held, (tuple, dict, str, range)):
        raise Refused(f"len of {describe(obj)}")
    return len(held)


def range_(on: Interpreter, *bounds: Any) -> range:
    sizes = [whole(on, b) for b in bounds]
    wrong = not 1 <= len(sizes) <= 3 or sizes[2:] == [0]
    refuse_if(wrong, "range takes one to three arguments, and no step 0")
    return range(*sizes)


def zip_(on: Interpreter, *iterables: Any) -> Once:
    return Once(zip(*[on.iterate(i) for i in iterables], strict=False), iterables)


def next_(on: Interpreter, iterator: Any, /) -> Any:
    if not isinstance(iterator, Once):
        raise Refused(f"next of {describe(iterator)}")
    for item in on.iterate(iterator):
        return item
    raise Refused("next of an iterator at its end")


def sorted_(on: Interpreter, iterable: Any, /, *, reverse: Any = False) -> List:
    items = on.items(iterable)
    refuse_if(not all(isinstance(i, NUMBERS) for i in items), "sorted of values that are not constants")
    return List(tuple(sorted(items, reverse=reverse is True)))


def split(on: Interpreter, text: str, sep: Any = None, /) -> List:
    if sep is not None and (not isinstance(sep, str) or not sep):
        raise Refused("a string split by anything but a string")
    return on.new_list(text.split(sep))


CLASSES = {"list": List, "tuple": tuple, "dict": Table, "int": int, "bool": bool}


def isinstance_(on: Interpreter, obj: Any, kind: Any, /) -> bool:
    return any(is_instance(obj, k) for k in (kind if isinstance(kind, tuple) else (kind,)))


def is_instance(obj: Any, kind: Any) -> bool:
    name = kind.name if isinstance(kind, Native) else ""
    if name == "np.ndarray":
        return isinstance(obj, Array) and obj.place is not None
    if name == "float":
        return isinstance(obj, float) or (isinstance(obj, Array) and obj.place is None and obj.kind == "f")
    if name not in CLASSES or isinstance(obj, RowCount):
        raise Refused("isinstance with this type")
    return isinstance(obj, CLASSES[name])


def hasattr_(on: Interpreter, obj: Any, name: Any, /) -> bool:
    """Whether an array or a list has one of the attributes that bodies ask for to tell them apart."""
    of_containers = name in ("__len__", "__iter__", "__getitem__")
    if of_containers or name in ("shape", "ndim", "dtype", "size"):
        if isinstance(obj, Array) and obj.ndim:
            return True
        if isinstance(obj, (List, tuple, Table)):
            return of_containers
    raise Refused(f"hasattr of {describe(obj)} and this name")


def isscalar(on: Interpreter, element: Any) -> bool:
    return element.place is None if isinstance(element, Array) else isinstance(element, (*NUMBERS, str))
