"""What numpy's functions do that neither the table of functions of every cell nor the prelude can say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llmsr.expression.operations import OPS
from llmsr.expression.reader.arrays import EXACT, expand, fresh, mixes_rows, view
from llmsr.expression.reader.indexing import COMBINE, Combine, part, reduced, transpose, whole
from llmsr.expression.reader.statements import Interpreter
from llmsr.expression.reader.values import (
    CONTEXT,
    UNSET,
    Array,
    Closure,
    DType,
    List,
    Module,
    Native,
    Refused,
    RowCount,
    Table,
    describe,
    refuse_if,
)

KIND_NAMES = {
    "float": "f", "float64": "f", "double": "f", "f8": "f", "d": "f", "int": "i", "int64": "i", "bool": "b",
    "bool_": "b",
}  # fmt: skip
MAX_POINTS = 32
"""Of a table of constants: more is a table of answers and no equation."""


# ---- types and new arrays


def kind_of(dtype: Any, default: str) -> str:
    """The kind that a dtype argument asks for."""
    if dtype is None:
        return "b" if default == "t" else default
    if isinstance(dtype, DType):
        return dtype.kind
    name = dtype.name.removeprefix("np.") if isinstance(dtype, Native) else dtype
    if not isinstance(name, str) or name not in KIND_NAMES:
        raise Refused("a dtype other than float64, int64 and bool")
    return KIND_NAMES[name]


def cast(on: Interpreter, a: Array, kind: str) -> Array:
    """A copy of another type, where no rounding or overflow is at stake."""
    if kind == "b" and a.kind not in "bt":
        return on.compare("!=", a, on.number(0))
    # numpy cuts each row's number: an integer that is not known has no place in the graph
    if kind == "i" and a.kind == "f":
        values = on.constants(a)
        if values is None or any(not math.isfinite(v) or abs(v) > EXACT for v in values):
            raise Refused("a cast of data to integers (use np.floor, np.trunc or np.rint)")
        return on.elementwise("trunc", "i", a)
    return on.copy(a, kind)


def array(on: Interpreter, object: Any, dtype: Any = None, copy: Any = True) -> Array:
    if isinstance(object, (Table, str)) or object is None:
        raise Refused(f"an array made of {describe(object)}")
    a = on.array(tuple(on.items(object)) if isinstance(object, range) else object)
    a = cast(on, a, kind_of(dtype, a.kind))
    return fresh(a.cells, a.kind, a.rows, a.selection)


def asarray(on: Interpreter, a: Any, dtype: Any = None) -> Array:
    if isinstance(a, Array) and a.place is not None and kind_of(dtype, a.kind) == a.kind:
        return on.array(a)
    return array(on, a, dtype)


def lifted(on: Interpreter, items: Any) -> list[Array]:
    """The members of a list of arrays."""
    return [on.array(item) for item in on.items(items)]


def shape_of(on: Interpreter, shape: Any) -> list[int | RowCount]:
    """A shape argument: a size or a tuple of sizes."""
    sizes = on.items(shape) if isinstance(shape, (List, tuple)) else [shape]
    return [n if isinstance(n, RowCount) else whole(on, n) for n in sizes]


def filled(on: Interpreter, shape: Sequence[int | RowCount], value: Array) -> Array:
    """A new array of this shape filled with `value`, which is broadcast."""
    axes = [i for i, n in enumerate(shape) if isinstance(n, RowCount)]
    if len(axes) > 1:
        raise mixes_rows("an array with two row axes")
    sizes = [1 if isinstance(n, RowCount) else n for n in shape]
    on.check_shape(sizes)
    rows = axes[0] - len(sizes) if axes else None
    selection = next((n.selection for n in shape if isinstance(n, RowCount)), ())
    on.fits(value, Array(np.empty(sizes, dtype=np.int64), value.kind, rows, selection))
    return fresh(np.broadcast_to(value.cells, sizes), value.kind, rows, selection)


def full(on: Interpreter, shape: Any, fill_value: Any, dtype: Any = None) -> Array:
    value = on.array(fill_value)
    return filled(on, shape_of(on, shape), cast(on, value, kind_of(dtype, value.kind)))


def empty(on: Interpreter, shape: Any, dtype: Any = None) -> Array:
    out = full(on, shape, 0.0, dtype)
    return fresh(np.full_like(out.cells, on.graph.column(UNSET)), out.kind, out.rows, out.selection)


def broadcast_to(on: Interpreter, array: Any, shape: Any) -> Array:
    out = filled(on, shape_of(on, shape), on.array(array))
    locked = "the result of np.broadcast_to is changed in place"
    return fresh(out.cells, out.kind, out.rows, out.selection, locked)


def constants(on: Interpreter, values: np.ndarray) -> Array:
    """A one-dimensional array of known numbers."""
    on.check_shape(values.shape)
    on.spend(values.size)
    cells = np.array([on.graph.const(float(v)) for v in values], dtype=np.int64)
    return fresh(cells, "f" if values.dtype.kind == "f" else "i")


def plain(on: Interpreter, value: Any, what: str) -> Any:
    """A Python number, where a number known now is needed."""
    if isinstance(value, RowCount):
        raise mixes_rows(f"{what} over the number of rows")
    if isinstance(value, Array):
        value = on.constant(on.array(value))
    if not isinstance(value, (int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise Refused(f"{what} of values that are not constants")
    return value


def arange(on: Interpreter, *bounds: Any, dtype: Any = None) -> Array:
    numbers = [plain(on, b, "np.arange") for b in bounds]
    refuse_if(not 1 <= len(numbers) <= 3, "np.arange takes one to three arguments")
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    if step == 0 or abs((stop - start) / step) > on.limits.items or max(map(abs, numbers)) > EXACT:
        raise Refused(f"np.arange of more than {on.limits.items} values", "too_large")
    out = constants(on, np.arange(start, stop, step))
    return cast(on, out, kind_of(dtype, out.kind))


def linspace(on: Interpreter, start: Any, stop: Any, num: Any = 50, endpoint: Any = True) -> Array:
    n, limit = whole(on, num), on.limits.items
    refuse_if(not 0 <= n <= limit, f"np.linspace of more than {limit} values", "too_large")
    a, b = (float(plain(on, v, "np.linspace")) for v in (start, stop))
    return constants(on, np.linspace(a, b, n, endpoint=endpoint is True))


# ---- shapes


def reshape(on: Interpreter, a: Any, *shape: Any) -> Array:
    """Any new shape without the row axis; with it only axes of length 1 can come and go."""
    a = asarray(on, a)
    sizes = shape_of(on, shape[0] if len(shape) == 1 else shape)
    at = [i for i, n in enumerate(sizes) if isinstance(n, RowCount) or (n == -1 and a.rows is not None)]
    if (len(at) != 1 or a.cells.size != 1) if a.rows is not None else at:
        raise mixes_rows(f"a reshape of {a.shape_text()}")
    known = [1 if isinstance(n, RowCount) or i in at else n for i, n in enumerate(sizes)]
    on.check_shape([abs(n) for n in known])
    try:
        out = view(a, lambda cells: cells.reshape(known), at[0] - len(sizes) if at else None)
    except ValueError:
        raise Refused(f"a reshape of {a.shape_text()} that does not fit") from None
    if a.ndim <= 1 and a.at is None:
        return out
    # numpy copies where the cells do not lie in order, so that the result may or may not be a view
    return fresh(out.cells, out.kind, out.rows, out.selection, sources=on.tie(a.place))


def squeeze(on: Interpreter, a: Any, axis: Any = None) -> Array:
    a = asarray(on, a)
    # the rows stay, though there might be one alone
    axes = range(a.ndim) if axis is None else [on.axis(axis, a.ndim)]
    drop = [i for i in axes if a.cells.shape[i] == 1 and i != a.row_axis]
    refuse_if(axis is not None and not drop, "squeeze of an axis that is not of length 1")
    return part(on, a, (*(0 if i in drop else slice(None) for i in range(a.ndim)), Ellipsis))


def transposed(on: Interpreter, a: Any, *axes: Any) -> Array:
    refuse_if(axes and on.array(a).ndim != 2, "a transpose with given axes")
    return transpose(on.array(a))


def reduction(combine: Combine, label: str) -> Callable[..., Array]:
    def function(on: Interpreter, a: Any, axis: Any = None, keepdims: Any = False) -> Array:
        axis = whole(on, axis) if isinstance(axis, Array) else axis
        return reduced(on, on.array(a), axis, keepdims is True, label, combine)

    return function


def einsum(on: Interpreter, subscripts: Any, *operands: Any) -> Array:
    """Products summed over letters, none of which may be the rows."""
    text = subscripts.replace(" ", "") if isinstance(subscripts, str) else ""
    inputs, arrow, output = text.partition("->")
    if not arrow:
        output = "".join(sorted(x for x in set(inputs) if x != "," and inputs.count(x) == 1))
    terms, arrays = inputs.split(","), [on.array(o) for o in operands]
    letters = list(dict.fromkeys(inputs.replace(",", "")))
    fits = [len(t) for t in terms] == [a.ndim for a in arrays] and len(arrays) <= 3
    known = all(t.isalpha() and len(set(t)) == len(t) for t in terms) and set(output) <= set(letters)
    refuse_if(not (fits and known) or len(set(output)) != len(output), "np.einsum of this form")
    # all operands get the same axes, those to be summed first, so that broadcasting does the rest
    order = [x for x in letters if x not in output] + list(output)
    product: Array | None = None
    for t, a in zip(terms, arrays, strict=True):
        if a.row_axis is not None and t[a.row_axis] not in output:
            raise mixes_rows("np.einsum over the rows")
        a = aligned(a, t, order)
        product = a if product is None else on.arithmetic("*", product, a)
    assert product is not None
    for _ in range(len(order) - len(output)):
        product = reduced(on, product, 0, False, "np.einsum", COMBINE["sum"])
    return product


def aligned(a: Array, letters: str, order: list[str]) -> Array:
    """The axes of `a` put into the given order, missing ones with length 1."""
    present = [x for x in order if x in letters]
    rows = None if a.row_axis is None else present.index(letters[a.row_axis]) - len(present)
    a = view(a, lambda cells: cells.transpose([letters.index(x) for x in present]), rows)
    for i, x in enumerate(order):
        if x not in letters:
            a = expand(a, i)
    return a


# ---- choosing and writing


def choose(on: Interpreter, a: Any, choices: Any) -> Array:
    """np.choose by what is known to be the position of a choice."""
    # numpy stops at a position that there is not, so that one that may not exist cannot be read
    index, values = on.array(a), lifted(on, choices)
    cells = index.cells.ravel().tolist() if index.kind != "f" and len(values) <= MAX_POINTS else [-1]
    if not all(cell >= 0 and counts(on, cell) and on.largest(cell) < len(values) for cell in cells):
        raise Refused("np.choose by anything but the position of a choice, such as np.digitize gives")
    result = values[-1]
    for i in range(len(values) - 2, -1, -1):
        result = on.where(on.compare("==", index, on.number(i)), values[i], result)
    return result


def counts(on: Interpreter, cell: int) -> bool:
    """Whether a node is a sum of masks and of constants that are not negative."""
    node = on.graph.nodes[cell]
    if node.op == "add":
        return all(counts(on, below) for below in node.args)
    return (
        bool(node.value is not None and node.value >= 0)
        if node.op == "const"
        else (node.op in OPS and OPS[node.op].boolean)
    )


def vectorize(on: Interpreter, pyfunc: Any, otypes: Any = None) -> Native:
    """np.vectorize: a function of numbers, called for every row.

    Without `otypes` numpy takes the type from the first row, so that one that differs by row is refused.
    """
    given = on.items(otypes) if isinstance(otypes, (List, tuple)) else [otypes]
    refuse_if(len(given) != 1, "np.vectorize with other than one type")
    kind = None if given[0] is None else kind_of(given[0], "f")

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Array:
        arrays = [on.array(a) for a in args]
        columns = [a for a in arrays if a.ndim]
        if kwargs or any(a.rows is None or a.ndim != 1 for a in columns):
            raise Refused("np.vectorize of anything but columns and numbers")
        if len({a.selection for a in columns}) != 1:
            raise Refused("np.vectorize of no column, or of differently selected rows")
        before, on.one_kind = on.one_kind, on.one_kind or kind is None
        value = each_row(on, pyfunc, arrays)
        on.one_kind = before
        value = cast(on, value, kind_of(None, value.kind) if kind is None else kind)
        return filled(on, [RowCount(columns[0].selection)], value)

    return Native("np.vectorize", call, (pyfunc,))


def each_row(on: Interpreter, function: Any, arrays: list[Array]) -> Array:
    """The value of a function of the numbers of each row, as a number.

    Inside the function a column is one number per row, like a parameter; nothing outside can be changed,
    and what meets a whole column there keeps the row axis and cannot be returned.
    """
    numbers = [Array(a.cells.reshape(()), a.kind) for a in arrays]
    with on.under(None):
        value = on.array(on.apply(function, numbers, {}))
    if value.rows is not None or value.ndim:
        raise Refused("a vectorized function whose value is not one number per row")
    return value


def into(on: Interpreter, name: str, result: Array, out: Any, where: Any = True) -> Array:
    """`out` with the result written into it, where the mask `where` holds."""
    out = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if not isinstance(out, Array) or out.place is None:
        raise Refused(f"{name} with out= that is no array, or where= without it")
    if where is not True:
        mask = on.array(where)
        refuse_if(mask.kind != "b", f"{name} with where= that is no mask")
        result = on.where(mask, result, on.array(out))
    on.set_part(out, Ellipsis, result)
    return out


# ---- without effect on an equation


def nothing(on: Interpreter, *args: Any, **kwargs: Any) -> Any:
    """Warnings and error states of numpy."""
    for given in (*args, *kwargs.values()):
        if isinstance(given, (Native, Closure)) or given in ("error", "raise", "call"):
            raise Refused("warnings or errors of numpy that stop the program or call something")
    return CONTEXT


def seterr(on: Interpreter, **kwargs: Any) -> Table:
    """np.seterr, whose result is only good for another call of it."""
    nothing(on, **kwargs)
    return Table(dict.fromkeys(("divide", "over", "under", "invalid"), "warn"))


def seed(on: Interpreter, seed: Any = None) -> None:
    """Nothing, since nothing is drawn."""
    refuse_if(seed is not None and not 0 <= whole(on, seed) < 2**32, "a seed that is not between 0 and 2**32")


def finfo(on: Interpreter, dtype: Any) -> Module:
    refuse_if(kind_of(dtype, "f") != "f", "np.finfo of a type other than float64")
    return Module("numpy.finfo")
