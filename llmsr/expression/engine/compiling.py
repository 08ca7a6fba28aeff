"""How numba is used: decorators, and all tricks with memory.

Compiled code holds addresses as int64. Nothing of that is checked when it runs: who passes an address keeps
the memory behind it alive and in its shape.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from llmsr.expression.engine.kept import folder


@contextlib.contextmanager
def _keeping() -> Iterator[bool]:
    """While open, functions are told to use the folder; whether there is one."""
    settings, place = numba.config, folder()
    told = settings.CACHE_DIR
    try:
        if place is not None:
            settings.CACHE_DIR = str(place)
        yield place is not None
    finally:
        settings.CACHE_DIR = told


def _decorator(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def compiled(function: Callable[..., Any]) -> Any:
        with _keeping() as kept:
            return numba.njit(cache=kept, nogil=True, error_model="numpy", **options)(function)

    return compiled


jit = _decorator()
jit_contracting = _decorator(fastmath={"contract"})
jit_reassociating = _decorator(fastmath={"reassoc", "contract"})


def callback(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for functions that are called through their `address`."""

    def compiled(function: Callable[..., Any]) -> Any:
        with _keeping() as kept:
            return numba.cfunc(signature, cache=kept, error_model="numpy")(function)

    return compiled


# ---- numpy's inner loops, calls and arrays by their addresses

_DOUBLE = 12  # numpy's type number of float64


# Trick 1: a ufunc is a table of C functions `void loop(char **args, npy_intp *dimensions, npy_intp *strides,
# void *data)`, one per type signature, which numpy fills with the kernels for this CPU. Calling the float64
# entry gives numpy's own bits without the interpreter. The layout is that of `PyUFuncObject` in numpy's
# public C header; it is checked against the ufunc's Python attributes.
class _UFuncHead(ctypes.Structure):
    _fields_ = (
        ("object_head", ctypes.c_byte * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("name", ctypes.c_void_p),
        ("types", ctypes.POINTER(ctypes.c_ubyte)),
    )


class NoLoop(Exception):
    """The ufunc has no float64 loop, or its memory does not look as expected."""


def loop_address(ufunc: np.ufunc) -> tuple[int, int]:
    """(address of the all-float64 inner loop, its data pointer); raises `NoLoop`."""
    head = _UFuncHead.from_address(id(ufunc))
    counts = (head.nin, head.nout, head.nargs, head.ntypes)
    if counts != (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes) or not head.functions or not head.types:
        raise NoLoop(f"{ufunc} has an unknown memory layout")
    for i in range(head.ntypes):
        kinds = [head.types[i * head.nargs + j] for j in range(head.nargs)]
        if all(kind == _DOUBLE for kind in kinds) and head.functions[i]:
            return head.functions[i], (head.data[i] or 0) if head.data else 0
    raise NoLoop(f"{ufunc} has no loop on float64")


# Trick 2: the C library's clock by its address, since compiled code cannot call Python's `time`.
def clock_address() -> int:
    """The address of `clock_gettime`; raises `OSError` where there is none."""
    address = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value
    if address is None:
        raise OSError("no clock_gettime")
    return address


# Trick 3: calls through an address. The compiler cannot look into what is called, so our own large functions
# are not copied into each of their callers, which keeps compilation short.
def _foreign(result: str, *arguments: str):
    """What an intrinsic gives that calls the function at its first argument with the others, all int64."""
    kinds = {"void": ir.VoidType(), "int": ir.IntType(64), "int32": ir.IntType(32)}
    kinds["pointer"] = ir.IntType(8).as_pointer()
    returned = types.void if result == "void" else types.int64
    signature = returned(*[types.int64] * (len(arguments) + 1))

    def codegen(context, builder, signature, values):
        shape = ir.FunctionType(kinds[result], [kinds[a] for a in arguments])
        call = builder.inttoptr(values[0], shape.as_pointer())
        converted = []
        for kind, value in zip(arguments, values[1:], strict=True):
            if kind == "pointer":
                value = builder.inttoptr(value, kinds[kind])
            elif kind == "int32":
                value = builder.trunc(value, kinds[kind])
            converted.append(value)
        answer = builder.call(call, converted)
        return context.get_dummy_value() if result == "void" else answer

    return signature, codegen


@intrinsic
def call_loop(typingctx, function, args, dimensions, strides, data):
    return _foreign("void", "pointer", "pointer", "pointer", "pointer")


@intrinsic
def call_clock(typingctx, function, kind, timespec):
    return _foreign("void", "int32", "pointer")


@intrinsic
def call_gram(typingctx, function, program, theta, k, first, out):
    return _foreign("int", *["int"] * 5)


# Trick 4: arrays over memory that an address names, so that one table of integers is a whole program.
def _pointer_to(kind: types.Type):
    signature = types.CPointer(kind)(types.int64)

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def _number_pointer(typingctx, address):
    return _pointer_to(types.float64)


@intrinsic
def _integer_pointer(typingctx, address):
    return _pointer_to(types.int64)


@jit
def numbers(address, shape):
    """The float64 array of a shape (a tuple) at an address."""
    return carray(_number_pointer(address), shape)


@jit
def integers(address, size):
    """The int64 array of shape (size,) at an address."""
    return carray(_integer_pointer(address), (size,))


# Trick 5: the bits of a number, to read and write exponents of two without leaving vector instructions.
def _reinterpreted(given: types.Type, wanted: types.Type):
    def codegen(context, builder, signature, values):
        return builder.bitcast(values[0], context.get_value_type(wanted))

    return wanted(given), codegen


@intrinsic
def as_bits(typingctx, number):
    return _reinterpreted(types.float64, types.uint64)


@intrinsic
def as_number(typingctx, bits):
    return _reinterpreted(types.uint64, types.float64)
