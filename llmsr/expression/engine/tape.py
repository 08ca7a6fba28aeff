"""A flat tape: the value and the derivatives of an expression as instructions over blocks of rows.

Three stages, so that work is done as seldom as it can be. *Features* depend on columns alone and are computed
once per data set; *uniforms* depend on parameters alone and are computed once per evaluation; the *row
program* does the rest, block by block, in registers that stay in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from llmsr.expression.derive import Derivatives
from llmsr.expression.graph import OPS, Node

FEATURE, UNIFORM, REGISTER = 0, 1, 2
FUSED = {"mul": "mul_mul", "add": "mul_add", "sub": "mul_sub", "neg": "mul_neg"}
"""Instructions that multiply their first two arguments and then do what the key says with the third."""


class Instruction(NamedTuple):
    """`op(args)` into `dst`; an argument is (where, index), where is FEATURE, UNIFORM or REGISTER."""

    op: str
    dst: int
    args: tuple[tuple[int, int], ...]
    second: int = -1  # the place of the cosine, where `op` is "sincos"


@dataclass(frozen=True)
class Tape:
    """What to compute for one expression, independent of data and engine.

    `params` are the author's indices of the parameters in the order of the parameter vector. Uniform slots
    hold the constants first, then the parameters, then the results of `uniform_program`. Feature rows are
    those of `feature_nodes`: positions in `nodes`. The value ends in register len(params), which holds
    nothing else; `partials` are the places of the derivatives, FEATURE or REGISTER.
    """

    nodes: tuple[Node, ...]
    params: tuple[int, ...]
    constants: tuple[float, ...]
    n_uniforms: int
    uniform_program: tuple[Instruction, ...]
    feature_nodes: tuple[int, ...]
    row_program: tuple[Instruction, ...]
    n_registers: int
    partials: tuple[tuple[int, int], ...]
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What engines worked out from the tape alone, by their names."""

    @property
    def n_params(self) -> int:
        """The length of the parameter vector."""
        return len(self.params)

    def features(self, columns: np.ndarray) -> np.ndarray:
        """The feature rows, shape (features, rows), for input columns of shape (columns, rows)."""
        rows = columns.shape[1]
        out = np.empty((len(self.feature_nodes), rows))
        wanted = {node: i for i, node in enumerate(self.feature_nodes)}
        needed = self._needed_columns()
        step = 16384
        with np.errstate(all="ignore"):
            for start in range(0, rows, step):
                block = slice(start, min(start + step, rows))
                values: dict[int, np.ndarray] = {}
                for index in needed:
                    node = self.nodes[index]
                    value: np.ndarray
                    if node.op == "const":
                        value = np.asarray(node.value, dtype=np.float64)
                    elif node.op == "column":
                        value = columns[int(node.value or 0), block]
                    else:
                        value = OPS[node.op].kernel(*(values[a] for a in node.args))
                    values[index] = value
                    if index in wanted:
                        out[wanted[index], block] = value
        return out

    def _needed_columns(self) -> list[int]:
        needed: set[int] = set()
        stack = list(self.feature_nodes)
        while stack:
            index = stack.pop()
            if index not in needed:
                needed.add(index)
                stack.extend(self.nodes[index].args)
        return sorted(needed)


def compile_tape(derivatives: Derivatives, max_features: int = 64) -> Tape:
    """The tape of a value and its derivatives.

    Beyond `max_features` column-only results the remaining ones are computed in the row program, which
    bounds memory.
    """
    nodes, root, partials = _lowered(derivatives)
    params = derivatives.params
    kinds = _kinds(nodes)
    return _Assembler(nodes, kinds, root, partials, params, max_features).tape()


def _lowered(derivatives: Derivatives) -> tuple[list[Node], int, list[int]]:
    """The same nodes with small integer powers spelled as products."""
    if not any(op == "pow" and derivatives.nodes[args[1]].op == "const" for op, args, _ in derivatives.nodes):
        return list(derivatives.nodes), derivatives.root, list(derivatives.partials)
    nodes: list[Node] = []
    known: dict[Node, int] = {}

    def intern(node: Node) -> int:
        if node.op == "const":
            nodes.append(node)
            return len(nodes) - 1
        index = known.get(node)
        if index is None:
            index = known[node] = len(nodes)
            nodes.append(node)
        return index

    place: list[int] = []
    for node in derivatives.nodes:
        args = tuple(place[a] for a in node.args)
        if node.op == "pow" and nodes[args[1]].op == "const":
            exponent = nodes[args[1]].value
            base = args[0]
            if exponent == 0.5:
                place.append(intern(Node("sqrt", (base,))))
                continue
            if exponent in (2.0, 3.0, 4.0):
                square = intern(Node("mul", (base, base)))
                if exponent == 3.0:
                    square = intern(Node("mul", (square, base)))
                if exponent == 4.0:
                    square = intern(Node("mul", (square, square)))
                place.append(square)
                continue
        place.append(intern(node._replace(args=args)))
    return nodes, place[derivatives.root], [place[p] for p in derivatives.partials]


def _kinds(nodes: list[Node]) -> list[int]:
    kinds: list[int] = []
    for node in nodes:
        if not node.args:
            kinds.append(FEATURE if node.op == "column" else UNIFORM)
            continue
        below = [kinds[a] for a in node.args]
        if REGISTER in below:
            kinds.append(REGISTER)
        elif FEATURE not in below:
            kinds.append(UNIFORM)
        elif UNIFORM not in below or all(
            nodes[a].op == "const" for a, kind in zip(node.args, below, strict=True) if kind == UNIFORM
        ):
            kinds.append(FEATURE)
        else:
            kinds.append(REGISTER)
    return kinds


class _Assembler:
    """Places every node in a feature row, a uniform slot or a register, and emits the programs."""

    def __init__(
        self,
        nodes: list[Node],
        kinds: list[int],
        root: int,
        partials: list[int],
        params: tuple[int, ...],
        max_features: int,
    ) -> None:
        self.nodes, self.kinds, self.params = nodes, kinds, params
        self.outputs = [*partials, root]
        self.max_features = max_features
        self.live = self._live()
        self.merged: dict[int, int] = {}

    def _live(self) -> list[bool]:
        live = [False] * len(self.nodes)
        for output in self.outputs:
            live[output] = True
        for i in range(len(self.nodes) - 1, -1, -1):
            if live[i]:
                for a in self.nodes[i].args:
                    live[a] = True
        return live

    def _chosen_features(self) -> list[int]:
        """Column-only nodes that the row program reads, and plain columns where those are too many."""
        read: set[int] = set()
        for i, node in enumerate(self.nodes):
            if self.live[i] and self.kinds[i] == REGISTER:
                read.update(a for a in node.args if self.kinds[a] == FEATURE)
        read.update(o for o in self.outputs if self.kinds[o] == FEATURE)
        chosen = sorted(read)
        if len(chosen) <= self.max_features:
            return chosen
        for i, node in enumerate(self.nodes):
            if self.kinds[i] == FEATURE and node.op != "column":
                self.kinds[i] = REGISTER
        return [i for i, node in enumerate(self.nodes) if node.op == "column" and self.live[i]]

    def tape(self) -> Tape:
        features = self._chosen_features()
        where: dict[int, tuple[int, int]] = {node: (FEATURE, i) for i, node in enumerate(features)}
        constants: list[float] = []
        for i, node in enumerate(self.nodes):
            if self.live[i] and node.op == "const":
                where[i] = (UNIFORM, len(constants))
                constants.append(float(node.value))  # type: ignore[arg-type]
        slot = len(constants)
        for i, node in enumerate(self.nodes):
            if node.op == "param":
                where[i] = (UNIFORM, slot + self.params.index(int(node.value)))  # type: ignore[arg-type]
        slot += len(self.params)
        uniform_program = []
        for i, node in enumerate(self.nodes):
            if self.live[i] and self.kinds[i] == UNIFORM and node.args:
                where[i] = (UNIFORM, slot)
                uniform_program.append(Instruction(node.op, slot, tuple([where[a] for a in node.args])))
                slot += 1
        rows, n_registers, partials = self._row_program(where)
        return Tape(
            tuple(self.nodes),
            self.params,
            tuple(constants),
            max(slot, 1),
            tuple(uniform_program),
            tuple(features),
            tuple(rows),
            n_registers,
            tuple(partials),
        )

    def _merged(self) -> dict[int, int]:
        """The products that are computed inside the only node that uses them, by that node."""
        uses = [0] * len(self.nodes)
        for i, node in enumerate(self.nodes):
            if self.live[i] and self.kinds[i] == REGISTER:
                for a in node.args:
                    uses[a] += 1
        for output in self.outputs:
            uses[output] += 2
        merged: dict[int, int] = {}
        for i, node in enumerate(self.nodes):
            if not self.live[i] or self.kinds[i] != REGISTER or node.op not in FUSED:
                continue
            for a in node.args:
                single = self.kinds[a] == REGISTER and uses[a] == 1 and self.nodes[a].op == "mul"
                if single and a not in merged:
                    merged[i] = a
                    break
        return merged

    def _operands(self, i: int) -> tuple[str, tuple[int, ...]]:
        """A node's operation and what it reads, a product merged into it included; numbers last in it."""
        node = self.nodes[i]
        product = self.merged.get(i)
        if product is None:
            return node.op, node.args
        first, second = self.nodes[product].args
        if self.kinds[first] == UNIFORM:
            first, second = second, first
        if node.op == "neg":
            return "mul_neg", (first, second)
        other = node.args[1] if node.args[0] == product else node.args[0]
        op = "sub_mul" if node.op == "sub" and node.args[1] == product else FUSED[node.op]
        return op, (first, second, other)

    def _twin(self, node: Node, index: int) -> int | None:
        """The later cosine of a sine's argument, or the reverse: both come out of one reduction."""
        if node.op not in ("sin", "cos"):
            return None
        return self.trig.get((("cos" if node.op == "sin" else "sin"), node.args[0]))

    def _row_program(
        self, where: dict[int, tuple[int, int]]
    ) -> tuple[list[Instruction], int, list[tuple[int, int]]]:
        self.merged = self._merged()
        within = set(self.merged.values())
        n_outputs = len(self.outputs)
        body = [i for i in range(len(self.nodes)) if self.live[i] and self.kinds[i] == REGISTER]
        last_use: dict[int, int] = {}
        self.trig = {
            (self.nodes[i].op, self.nodes[i].args[0]): i for i in body if self.nodes[i].op in ("sin", "cos")
        }
        body = [i for i in body if i not in within]
        for i in body:
            for a in self._operands(i)[1]:
                last_use[a] = i
        target: dict[int, int] = {}
        for register, output in enumerate(self.outputs):
            # a value that is also a derivative is kept there and copied: residuals overwrite the value's
            # register
            if self.kinds[output] == REGISTER:
                target.setdefault(output, register)
        free: list[int] = []
        top = n_outputs
        program: list[Instruction] = []
        for i in body:
            node = self.nodes[i]
            op, operands = self._operands(i)
            args = tuple([where[a] for a in operands])
            if i not in where:
                twin = self._twin(node, i)
                register, top = _place(i, target, free, top)
                where[i] = (REGISTER, register)
                if twin is None:
                    program.append(Instruction(op, register, args))
                else:
                    other, top = _place(twin, target, free, top)
                    where[twin] = (REGISTER, other)
                    sine, cosine = (register, other) if node.op == "sin" else (other, register)
                    program.append(Instruction("sincos", sine, args, cosine))
            # freed after the result has its place: compiled loops are fast only where they don't write
            # what they read
            for a in set(operands):
                if where[a][0] == REGISTER and last_use[a] == i and a not in target:
                    free.append(where[a][1])
        partials: list[tuple[int, int]] = []
        for register, output in enumerate(self.outputs):
            place = where[output]
            is_value = register == n_outputs - 1
            if place[0] == UNIFORM or (is_value and place != (REGISTER, register)):
                program.append(Instruction("copy", register, (place,)))
                place = (REGISTER, register)
            if not is_value:
                partials.append(place)
        return program, top, partials


def _place(node: int, target: dict[int, int], free: list[int], top: int) -> tuple[int, int]:
    """A register for a node, and the number of registers in use from then on."""
    if node in target:
        return target[node], top
    if free:
        return free.pop(), top
    return top, top + 1
