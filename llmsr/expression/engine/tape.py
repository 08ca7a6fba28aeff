"""A flat tape: the value and the derivatives of an expression as instructions over blocks of rows.

Three stages, so that work is done as seldom as it can be. *Features* depend on columns alone and are computed
once per data set; *uniforms* depend on parameters alone and are computed once per evaluation; the *row
program* does the rest, block by block, in registers that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from llmsr.expression.derive import Derivatives
from llmsr.expression.graph import Graph, Node, pruned, values_of
from llmsr.expression.operations import OPS
from llmsr.expression.symbol import Symbol

FEATURE, UNIFORM, REGISTER = 0, 1, 2
FEATURE_BLOCK = 16384  # rows
TWINS = {"sin": "cos", "cos": "sin"}

Place = tuple[int, int]
"""(FEATURE, UNIFORM or REGISTER; index)"""


class Instruction(NamedTuple):
    """`op(args)` into register or slot `dst`; `op` is an operation, "copy" or "sincos"."""

    op: str
    dst: int
    args: tuple[Place, ...]
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
    partials: tuple[Place, ...]
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
        if not self.feature_nodes:
            return out
        nodes, features = pruned(self.nodes, self.feature_nodes)
        with np.errstate(all="ignore"):
            for start in range(0, rows, FEATURE_BLOCK):
                block = slice(start, min(start + FEATURE_BLOCK, rows))
                values = values_of(nodes, columns[:, block], ())
                for row, feature in enumerate(features):
                    out[row, block] = values[feature]
        return out


def compile_tape(derivatives: Derivatives, max_features: int = 64) -> Tape:
    """The tape of a value and its derivatives.

    Beyond `max_features` column-only results the remaining ones are computed in the row program, which
    bounds memory.
    """
    nodes, outputs = _lowered(derivatives)
    kinds = _kinds(nodes)
    features = _features(nodes, kinds, outputs, max_features)
    places: dict[int, Place] = {node: (FEATURE, i) for i, node in enumerate(features)}
    leaves = {op: [i for i, node in enumerate(nodes) if node.op == op] for op in ("const", "param")}
    for slot, i in enumerate(leaves["const"]):
        places[i] = (UNIFORM, slot)
    slots = len(leaves["const"])
    for i in leaves["param"]:
        places[i] = (UNIFORM, slots + derivatives.params.index(int(nodes[i].value)))  # type: ignore[arg-type]
    slots += len(derivatives.params)
    uniform_program = []
    for i, node in enumerate(nodes):
        if kinds[i] == UNIFORM and node.args:
            places[i] = (UNIFORM, slots)
            uniform_program.append(Instruction(node.op, slots, tuple([places[a] for a in node.args])))
            slots += 1
    rows, n_registers, partials = _row_program(nodes, kinds, outputs, places)
    return Tape(
        nodes,
        derivatives.params,
        tuple(float(nodes[i].value) for i in leaves["const"]),  # type: ignore[arg-type]
        max(slots, 1),
        tuple(uniform_program),
        tuple(features),
        tuple(rows),
        n_registers,
        tuple(partials),
    )


def _lowered(derivatives: Derivatives) -> tuple[tuple[Node, ...], list[int]]:
    """The nodes that are needed, spelled as is best for engines, and the places of derivatives and value."""
    nodes: Sequence[Node] = derivatives.nodes
    outputs = [*derivatives.partials, derivatives.root]
    rules = [OPS[node.op].lowered if node.args else None for node in nodes]
    if any(rules):
        graph = Graph(max_nodes=4 * len(nodes))
        made: list[int] = []
        for node, rule in zip(nodes, rules, strict=True):
            args = [made[a] for a in node.args]
            spelled = rule(*[Symbol(graph, a) for a in args]) if rule else None
            made.append(spelled.index if spelled else graph.intern(node._replace(args=tuple(args))))
        nodes, outputs = graph.nodes, [made[output] for output in outputs]
    return pruned(nodes, outputs)


def _kinds(nodes: Sequence[Node]) -> list[int]:
    """What every node is: column-only, parameter-only, or both."""
    kinds: list[int] = []
    for node in nodes:
        below = {kinds[a] for a in node.args if nodes[a].op != "const"}
        if node.op == "column":
            kinds.append(FEATURE)
        elif REGISTER in below or len(below) > 1:
            kinds.append(REGISTER)
        else:
            kinds.append(below.pop() if below else UNIFORM)
    return kinds


def _features(
    nodes: Sequence[Node], kinds: list[int], outputs: Sequence[int], max_features: int
) -> list[int]:
    """Column-only nodes that the row program reads; plain columns, and `kinds` changed, where those are too
    many."""
    read = {a for i, node in enumerate(nodes) if kinds[i] == REGISTER for a in node.args}
    chosen = sorted(i for i in read.union(outputs) if kinds[i] == FEATURE)
    if len(chosen) <= max_features:
        return chosen
    for i, node in enumerate(nodes):
        if kinds[i] == FEATURE and node.op != "column":
            kinds[i] = REGISTER
    return [i for i, node in enumerate(nodes) if node.op == "column"]


def _row_program(
    nodes: Sequence[Node], kinds: list[int], outputs: Sequence[int], places: dict[int, Place]
) -> tuple[list[Instruction], int, list[Place]]:
    """The instructions for every row, how many registers they take, and where the derivatives end.

    Nodes get their places in `places` as they are computed.
    """
    body = [i for i, kind in enumerate(kinds) if kind == REGISTER]
    last_use = {a: i for i in body for a in nodes[i].args}
    trig = {(nodes[i].op, nodes[i].args[0]): i for i in body if nodes[i].op in TWINS}
    # a value that is also a derivative is kept there and copied: residuals overwrite the value's register
    target: dict[int, int] = {}
    for register, output in enumerate(outputs):
        if kinds[output] == REGISTER:
            target.setdefault(output, register)
    registers = _Registers(target, len(outputs))
    program: list[Instruction] = []
    for i in body:
        op, operands, _ = nodes[i]
        if i not in places:
            args = tuple([places[a] for a in operands])
            places[i] = (REGISTER, registers.take(i))
            twin = trig.get((TWINS[op], operands[0])) if op in TWINS else None
            if twin is None:
                program.append(Instruction(op, places[i][1], args))
            else:
                # the sine and the cosine of one argument come out of one reduction
                places[twin] = (REGISTER, registers.take(twin))
                first, second = (i, twin) if op == "sin" else (twin, i)
                program.append(Instruction("sincos", places[first][1], args, places[second][1]))
        # freed after the result has its place: compiled loops are fast only where they don't write what
        # they read
        for a in set(operands):
            if places[a][0] == REGISTER and last_use[a] == i and a not in target:
                registers.free.append(places[a][1])
    partials: list[Place] = []
    for register, output in enumerate(outputs):
        place = places[output]
        is_value = register == len(outputs) - 1
        if place[0] == UNIFORM or (is_value and place != (REGISTER, register)):
            program.append(Instruction("copy", register, (place,)))
            place = (REGISTER, register)
        partials.append(place)
    return program, registers.count, partials[:-1]


@dataclass
class _Registers:
    """Registers in use: results have theirs in `target`, others take a free one or a new one."""

    target: dict[int, int]
    count: int
    free: list[int] = field(default_factory=list)

    def take(self, node: int) -> int:
        if node in self.target:
            return self.target[node]
        if self.free:
            return self.free.pop()
        self.count += 1
        return self.count - 1
