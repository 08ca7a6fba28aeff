"""Addresses of the inner loops of numpy's element-wise functions, for calling them from compiled code.

A ufunc is a table of C functions `void loop(char **args, npy_intp *dimensions, npy_intp *strides, void
*data)`, one per type signature; numpy fills it with the kernels for this CPU. Calling the float64 entry
directly gives numpy's own bits without the interpreter. The layout is that of `PyUFuncObject` in numpy's
public C header; `loop_address` checks what it reads against the ufunc's Python attributes.
"""

from __future__ import annotations

import ctypes

import numpy as np

_DOUBLE = 12


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
        if all(kind == _DOUBLE for kind in kinds):
            function = head.functions[i]
            data = head.data[i] if head.data else None
            if not function:
                break
            return function, data or 0
    raise NoLoop(f"{ufunc} has no loop on float64")
