"""A tape's instructions as a table of integers, before it is known where its data and results lie.

Uniforms are results that depend on parameters alone: they have slots and are computed once per evaluation.
The rest is computed block by block in registers that stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from llmsr.expression.engine.addresses import loop_address
from llmsr.expression.engine.interpreter import WIDTH
from llmsr.expression.engine.tape import Tape
from llmsr.expression.operations import CALL, COPY, OPS, POWER, TRIG

NUMBER, FEATURE, UNIFORM, REGISTER = range(4)
"""What an integer of the table is: itself, or counted from the first feature, slot or register."""
TWINS = {"sin": "cos", "cos": "sin"}

Place = tuple[int, int]
"""(FEATURE, UNIFORM or REGISTER; index)"""

_LOOPS: dict[str, Place] = {
    name: loop_address(row.function)  # type: ignore[arg-type]
    for name, row in OPS.items()
    if row.opcode in (CALL, TRIG, POWER) and not row.boolean
}
_OPCODES = {name: row.opcode for name, row in OPS.items()} | {"copy": COPY}


@dataclass(frozen=True)
class Code:
    """Instructions, those of uniforms first: shape (instructions, WIDTH, 2), each integer after its kind.

    The first `constants` are kept in the first slots, the parameters in the slots after them.
    """

    table: np.ndarray
    n_uniform: int
    constants: tuple[float, ...]
    n_slots: int
    n_registers: int

    def bound(self, bases: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The table with addresses: `bases` and `steps` in bytes, for every kind of integer."""
        kinds = self.table[:, :, 0]
        found: np.ndarray = bases[kinds] + steps[kinds] * self.table[:, :, 1]
        return found


def _line(op: str, dst: Place, args: list[Place], second: Place = (NUMBER, 0)) -> list[Place]:
    """An instruction; `second` is the place of the cosine where `op` is the sine."""
    uniform = dst[0] == UNIFORM
    line = [(NUMBER, _OPCODES[op]), *((NUMBER, n) for n in _LOOPS.get(op, (0, 0))), dst]
    for kind, index in args:
        stride = 0 if kind == UNIFORM and not uniform else 8
        line += [(kind, index), (NUMBER, 8 if kind == FEATURE else 0), (NUMBER, stride)]
    if op == "sin":
        line += [second, (NUMBER, 0), (NUMBER, 8), *((NUMBER, n) for n in _LOOPS["cos"])]
    elif len(args) == 1:
        line += [dst, (NUMBER, 0), (NUMBER, 8)]  # a loop's second pointer is then where its result goes
    return line + [(NUMBER, 0)] * (WIDTH - len(line))


def assembled(tape: Tape) -> Code:
    """The code of a tape: derivatives and value end in the first registers, the value in one of its own."""
    nodes, outputs = tape.nodes, tape.outputs
    constants = [i for i, node in enumerate(nodes) if node.op == "const"]
    places: dict[int, Place] = {i: (UNIFORM, slot) for slot, i in enumerate(constants)}
    varies: list[bool] = []
    for i, node in enumerate(nodes):
        varies.append(node.op == "column" or any(varies[a] for a in node.args))
        if node.op == "column":
            places[i] = (FEATURE, int(node.value))  # type: ignore[arg-type]
        elif node.op == "param":
            places[i] = (UNIFORM, len(constants) + int(node.value))  # type: ignore[arg-type]
    # derivatives and value get the first registers, so that the sums read one block of memory
    slots = _Places(UNIFORM, len(constants) + tape.n_params)
    registers = _Places(REGISTER, len(outputs))
    inner = [i for i, node in enumerate(nodes) if node.args]
    uniform = _program(tape, [i for i in inner if not varies[i]], places, slots)
    for register, output in enumerate(outputs):
        if varies[output] and nodes[output].args:
            registers.wanted.setdefault(output, (REGISTER, register))
    rows = _program(tape, [i for i in inner if varies[i]], places, registers)
    for register, output in enumerate(outputs):
        # a value that is also a derivative is copied: residuals overwrite the value's register
        if places[output] != (REGISTER, register):
            rows.append(_line("copy", (REGISTER, register), [places[output]]))
    return Code(
        np.array([*uniform, *rows], dtype=np.int64).reshape(-1, WIDTH, 2),
        len(uniform),
        tuple(float(nodes[i].value) for i in constants),  # type: ignore[arg-type]
        slots.count,
        registers.count,
    )


@dataclass
class _Places:
    """Slots or registers in use: results have theirs in `wanted`, else take a free one or a new one."""

    kind: int
    count: int
    wanted: dict[int, Place] = field(default_factory=dict)
    free: list[Place] = field(default_factory=list)

    def take(self, node: int = -1) -> Place:
        if node in self.wanted:
            return self.wanted[node]
        if self.free:
            return self.free.pop()
        self.count += 1
        return self.kind, self.count - 1


def _program(tape: Tape, body: list[int], places: dict[int, Place], taken: _Places) -> list[list[Place]]:
    """The instructions for the nodes of `body`, whose places are noted in `places`."""
    nodes = tape.nodes
    last_use = {a: i for i in body for a in nodes[i].args}
    trig = {(nodes[i].op, nodes[i].args[0]): i for i in body if nodes[i].op in TWINS}
    lines: list[list[Place]] = []
    for i in body:
        op, operands, _ = nodes[i]
        if i not in places:
            places[i] = taken.take(i)
            args = [places[a] for a in operands]
            if op in TWINS:
                # the sine and the cosine of one argument come out of one reduction
                twin = trig.get((TWINS[op], operands[0]))
                other = taken.take() if twin is None else taken.take(twin)
                sine, cosine = (places[i], other) if op == "sin" else (other, places[i])
                lines.append(_line("sin", sine, args, cosine))
                if twin is None:
                    taken.free.append(other)
                else:
                    places[twin] = other
            else:
                lines.append(_line(op, places[i], args))
        # freed after the result has its place: compiled loops are fast only where they don't write what
        # they read
        for a in set(operands):
            if last_use[a] == i and places[a][0] == REGISTER and a not in taken.wanted:
                taken.free.append(places[a])
    return lines
