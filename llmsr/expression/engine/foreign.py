"""Addresses in compiled code: calls of functions behind them and arrays over the memory they point to."""

# mypy: disable-error-code="call-arg"
from __future__ import annotations

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from llmsr.expression.engine.compiling import jit


def _foreign(result, *arguments):
    """An intrinsic that calls the function at an address, its first argument, with the others, all int64."""
    kinds = {"void": ir.VoidType(), "int": ir.IntType(64), "float": ir.DoubleType(), "int32": ir.IntType(32)}
    kinds["pointer"] = ir.IntType(8).as_pointer()
    returned = {"void": types.void, "int": types.int64, "float": types.float64}[result]
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
def call_run(typingctx, function, code, size, row, width, spare, loops):
    return _foreign("void", *["int"] * 6)


@intrinsic
def call_gram(typingctx, function, program, theta, k, out):
    return _foreign("int", *["int"] * 4)


@intrinsic
def call_gradient(typingctx, function, program, theta, k, out):
    return _foreign("float", *["int"] * 4)


@intrinsic
def pointer(typingctx, address):
    signature = types.CPointer(types.float64)(types.int64)

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def _integer_pointer(typingctx, address):
    signature = types.CPointer(types.int64)(types.int64)

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return signature, codegen


@jit
def numbers(address, size):
    return carray(pointer(address), (size,))


@jit
def integers(address, size):
    return carray(_integer_pointer(address), (size,))
