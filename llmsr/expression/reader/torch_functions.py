"""torch's spellings, computed in float64 like everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmsr.expression.reader import numpy_functions, numpy_making, numpy_shaping, reductions
from llmsr.expression.reader.indexing import whole
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.reductions import Combine, reduce
from llmsr.expression.reader.values import Array, Refused


def tensor(
    on: Operators, data: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False
) -> Array:
    return numpy_making.array(on, data, dtype)


def along(name: str, combine: Combine) -> Callable[..., Array]:
    """A reduction with torch's argument names; `axis` is understood too."""

    def function(
        on: Operators, input: Any, dim: Any = None, keepdim: Any = False, *, axis: Any = None
    ) -> Array:
        where = dim if axis is None else axis
        return reduce(on.arrays, on.array(input), where, keepdim is True, f"torch.{name}", combine)

    return function


def extreme(name: str, op: str, combine: Combine) -> Callable[..., Array]:
    """torch.max and torch.min: of two tensors, or of all values of one."""

    def function(on: Operators, input: Any, other: Any = None) -> Array:
        if isinstance(other, Array):
            return on.arrays.extremum(op, on.array(input), other)
        if other is not None:
            raise Refused(f"torch.{name} along a dimension, which gives values and positions")
        return reduce(on.arrays, on.array(input), None, False, f"torch.{name}", combine)

    return function


def clamp(on: Operators, input: Any, min: Any = None, max: Any = None) -> Array:
    return numpy_functions.clip(on, input, min, max)


def stack(on: Operators, tensors: Any, dim: Any = 0, *, axis: Any = None) -> Array:
    return numpy_shaping.stack(on, tensors, dim if axis is None else axis)


def cat(on: Operators, tensors: Any, dim: Any = 0, *, axis: Any = None) -> Array:
    return numpy_shaping.concatenate(on, tensors, dim if axis is None else axis)


def sized(make: Callable[..., Array]) -> Callable[..., Array]:
    """torch.zeros(3, 4) beside torch.zeros((3, 4))."""

    def function(on: Operators, *size: Any, dtype: Any = None, device: Any = None) -> Array:
        shape = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        return make(on, shape, dtype)

    return function


def unsqueeze(on: Operators, input: Any, dim: Any) -> Array:
    return numpy_shaping.expand_dims(on, input, dim)


def transpose(on: Operators, input: Any, *dims: Any) -> Array:
    return numpy_shaping.transposed(on, input, *dims)


def where(on: Operators, condition: Any, input: Any = None, other: Any = None) -> Array:
    return numpy_functions.where(on, condition, input, other)


def lerp(on: Operators, input: Any, end: Any, weight: Any) -> Any:
    return on.binary("+", input, on.binary("*", weight, on.binary("-", end, input)))


def addcmul(on: Operators, input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return on.binary("+", input, on.binary("*", value, on.binary("*", tensor1, tensor2)))


def same(on: Operators, a: Any, *args: Any, **kwargs: Any) -> Array:
    """detach, double, contiguous: the tensor itself."""
    array = numpy_making.asarray(on, a)
    if array.kind != "f":
        return numpy_making.cast(on, array, "f")
    return array


def softplus(on: Operators, input: Any, beta: Any = 1.0, threshold: Any = 20.0) -> Array:
    """log(1 + exp(beta x)) / beta, and x beyond the threshold."""
    calc, x = on.arrays, on.array(input)
    scaled = calc.arithmetic("*", x, on.array(beta))
    smooth = calc.arithmetic("/", calc.float_function("logaddexp", scaled, calc.number(0.0)), on.array(beta))
    return calc.where(calc.compare(">", scaled, on.array(threshold)), x, smooth)


def leaky_relu(on: Operators, input: Any, negative_slope: Any = 0.01) -> Array:
    calc, x = on.arrays, on.array(input)
    sloped = calc.arithmetic("*", x, on.array(negative_slope))
    return calc.where(calc.compare(">", x, calc.number(0.0)), x, sloped)


def elu(on: Operators, input: Any, alpha: Any = 1.0) -> Array:
    calc, x = on.arrays, on.array(input)
    curved = calc.arithmetic("*", on.array(alpha), calc.float_function("expm1", x))
    return calc.where(calc.compare(">", x, calc.number(0.0)), x, curved)


def gelu(on: Operators, input: Any, approximate: Any = "none") -> Array:
    calc, x = on.arrays, on.array(input)
    half = calc.arithmetic("*", x, calc.number(0.5))
    if approximate == "tanh":
        cubic = on.binary("+", x, on.binary("*", 0.044715, on.binary("**", x, 3)))
        bent = calc.float_function("tanh", on.binary("*", math.sqrt(2 / math.pi), cubic))
    else:
        bent = calc.float_function("erf", on.binary("/", x, math.sqrt(2.0)))
    return on.binary("*", half, on.binary("+", 1.0, bent))


def softmax(on: Operators, input: Any, dim: Any) -> Array:
    return numpy_functions.softmax(on, input, whole(on.arrays, dim))


def logsumexp(on: Operators, input: Any, dim: Any, keepdim: Any = False) -> Array:
    return numpy_functions.logsumexp(on, input, dim, keepdim)


def hardtanh(on: Operators, input: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Array:
    return numpy_functions.clip(on, input, min_val, max_val)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tensor": tensor,
    "as_tensor": tensor,
    "sum": along("sum", reductions.total),
    "prod": along("prod", reductions.product),
    "mean": along("mean", reductions.mean),
    "all": along("all", reductions.every),
    "any": along("any", reductions.some),
    "amax": along("amax", reductions.greatest),
    "amin": along("amin", reductions.smallest),
    "max": extreme("max", "maximum", reductions.greatest),
    "min": extreme("min", "minimum", reductions.smallest),
    "clamp": clamp,
    "clip": clamp,
    "flatten": numpy_shaping.flatten,
    "stack": stack,
    "cat": cat,
    "concat": cat,
    "zeros": sized(numpy_making.zeros),
    "ones": sized(numpy_making.ones),
    "empty": sized(numpy_making.empty),
    "unsqueeze": unsqueeze,
    "transpose": transpose,
    "t": transpose,
    "where": where,
    "lerp": lerp,
    "addcmul": addcmul,
    "mv": numpy_functions.matmul_,
    "mm": numpy_functions.matmul_,
    "softmax": softmax,
    "logsumexp": logsumexp,
    "square": lambda on, input: on.binary("*", input, input),
}
METHODS: dict[str, Callable[..., Any]] = {
    "detach": same,
    "double": same,
    "contiguous": same,
    "unsqueeze": unsqueeze,
    "clamp": clamp,
    "t": transpose,
}
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "softplus": softplus,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "gelu": gelu,
    "softmax": softmax,
    "hardtanh": hardtanh,
}
