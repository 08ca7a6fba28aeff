"""Prints, as markdown tables, what a fit costs and reaches beside LLM-SR's way, peers and the machine.

    python benchmarks/fit_engine.py [corpus] [generated] [truths] [inner] [peers] [noise] [rows]

Without names all tables are printed. CPU seconds, user and system, everywhere; what is compared runs side by
side, body by body, in one run. The bodies of `benchmarks/corpus/` are ours and trusted: LLM-SR's way and the
peers execute them. `generated` are bodies of the grammar, from a seed that nothing was adjusted to.
pyoperon is one of the peers where it is installed (requirements-peers.txt).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from fit_peers import operon_levenberg_marquardt, scipy_least_squares, torch_bfgs  # noqa: E402

from llmsr.expression import Refusal, engine, parse  # noqa: E402
from llmsr.expression.engine.tape import compile_tape, derivatives  # noqa: E402
from llmsr.expression.operations import OPS  # noqa: E402
from llmsr.fitting import (  # noqa: E402
    Fit,
    fit,
    warm_up,
)
from llmsr.problem.loading import Problem, load_problem  # noqa: E402
from llmsr.problem.split import Split  # noqa: E402
from llmsr.proposers.grammar import random_body  # noqa: E402

HERE = Path(__file__).resolve().parent
GENERATED_SEED, GENERATED = 2026, 25
TRUTHS = {"oscillator1": 2, "oscillator2": 1, "bactgrow": 2}


def corpus() -> Iterator[tuple[str, int, str]]:
    """(problem, number, body) of every line of the corpus."""
    for path in sorted((HERE / "corpus").glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            entry = json.loads(line)
            yield entry["problem"], number, entry["body"]


def our_fit(body: str, problem: Problem, mode: str = "best") -> tuple[Fit, float]:
    """The fit of a body and its CPU seconds, reading the body included."""
    began = time.process_time()
    expression = parse(body, problem.spec.columns)
    if isinstance(expression, Refusal):
        raise SystemExit(f"{expression} in {body!r}")
    found = fit(expression, problem, mode, 60.0)
    return found, time.process_time() - began


class ForkedBFGS:
    """LLM-SR's way in a process of its own, see forked_bfgs.py."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        command = [sys.executable, str(HERE / "forked_bfgs.py")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, body: str, problem: Problem) -> tuple[float, float]:
        data = f"{self.folder}/{problem.name}.npz"
        if not os.path.exists(data):
            np.savez(data, inputs=problem.train.inputs, target=problem.train.target)
        task = {"body": body, "columns": problem.spec.columns, "data": data}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["loss"], answer["cpu_seconds"]


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def generated(problems: dict[str, Problem]) -> Iterator[tuple[str, int, str]]:
    """(problem, number, body) of bodies that the grammar draws."""
    for name, problem in problems.items():
        generator = Random(f"{GENERATED_SEED} {name}")
        for number in range(GENERATED):
            yield name, number, random_body(generator, problem.spec.columns, problem.spec.max_params)


def show_corpus(problems: dict[str, Problem]) -> None:
    """Ours beside LLM-SR's way on every skeleton of the corpus."""
    show_beside_llmsr("skeletons in the manner of an LLM", list(corpus()), problems)


def show_generated(problems: dict[str, Problem]) -> None:
    """Ours beside LLM-SR's way on skeletons of the grammar."""
    show_beside_llmsr("skeletons of the grammar", list(generated(problems)), problems)


def show_beside_llmsr(
    title: str, skeletons: list[tuple[str, int, str]], problems: dict[str, Problem]
) -> None:
    """Ours beside LLM-SR's way on every skeleton."""
    ratios: list[float] = []
    totals = {"best": 0.0, "bfgs": 0.0, "forked": 0.0}
    finite = equal = better = worse_than_bfgs = 0
    with tempfile.TemporaryDirectory() as folder:
        forked = ForkedBFGS(folder)
        for name, problem in problems.items():
            bodies = [(number, body) for other, number, body in skeletons if other == name]
            # a problem at a time, so that fits follow fits in one process as they do in a search
            answers = [forked(body, problem) for _, body in bodies]
            for (number, body), (theirs, cpu) in zip(bodies, answers, strict=True):
                best, seconds = our_fit(body, problem)
                bfgs, bfgs_seconds = our_fit(body, problem, "bfgs")
                totals["forked"] += cpu
                totals["best"] += seconds
                totals["bfgs"] += bfgs_seconds
                ratios.append(cpu / seconds)
                loss = math.inf if best.loss is None else best.loss
                if math.isfinite(theirs):
                    finite += 1
                    equal += loss <= 1.001 * theirs
                    better += loss < 0.99 * theirs
                    if loss > 1.001 * theirs:
                        print(f"worse: {name} {number} {loss:.6g} against {theirs:.6g}")
                worse_than_bfgs += bfgs.loss is not None and loss > 1.0005 * bfgs.loss
    count = len(ratios)
    table(
        f"{count} {title}, {engine.NAME} engine",
        ["", "CPU seconds", "times LLM-SR's way", "geometric mean", "loss <= 1.001x", "better by > 1%"],
        [
            ["LLM-SR's way (fork, import, BFGS)", f"{totals['forked']:.1f}", "1", "1", f"{finite}", "-"],
            [
                "best",
                f"{totals['best']:.2f}",
                f"{totals['forked'] / totals['best']:.0f}",
                f"{geometric(ratios):.0f}",
                f"{equal} of {finite}",
                f"{better}",
            ],
            ["bfgs", f"{totals['bfgs']:.2f}", f"{totals['forked'] / totals['bfgs']:.0f}", "", "", ""],
        ],
    )
    print(f"\nSmallest ratio {min(ratios):.0f}; worse than bfgs: {worse_than_bfgs}.")


def truth(name: str) -> str:
    return next(body for problem, number, body in corpus() if (problem, number) == (name, TRUTHS[name]))


def show_truths(problems: dict[str, Problem]) -> None:
    """True skeletons, every constant free."""
    rows = []
    for name in TRUTHS:
        problem = problems[name]
        runs = [our_fit(truth(name), problem) for _ in range(5)]
        variance = float(np.var(problem.train.target))
        loss = runs[0][0].loss
        assert loss is not None
        rows.append([name, f"{loss / variance:.1e}", f"{1e3 * min(t for _, t in runs):.1f}"])
    table("True skeletons, every constant free", ["problem", "train NMSE", "CPU ms"], rows)


def per_call(work: Callable[[], object], repeat: int = 200) -> float:
    """Seconds of one call, the least of five averages."""
    work()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(repeat // 5):
            work()
        times.append((time.perf_counter() - began) / (repeat // 5))
    return min(times)


def own_seconds(op: str, sample: np.ndarray) -> float:
    """Seconds per number of one function: numpy's kernel, or the compiled engine's own."""
    out, other = np.empty_like(sample), np.empty_like(sample)
    if engine.NAME != "numba":
        return _loop_seconds(lambda: getattr(np, op)(sample, out=out)) / len(sample)
    from llmsr.expression.engine.interpreter import sine_and_cosine, unary

    if op == "sin":
        return _loop_seconds(lambda: sine_and_cosine(sample, out, other)) / len(sample)
    return _loop_seconds(lambda: unary(OPS[op].opcode, sample, out)) / len(sample)


def _loop_seconds(work: Callable[[], object]) -> float:
    """The least time of a call; what calling costs, some tenths of a microsecond, is still in it."""
    return per_call(work, 5000)


def show_inner(problems: dict[str, Problem]) -> None:
    """One loss and Jacobian beside what its parts must take at least."""
    from llmsr.expression.engine import numpy_engine

    rows = []
    sample = np.random.default_rng(0).uniform(0.5, 1.5, 512)
    unit = {op: own_seconds(op, sample) for op in ("sin", "exp", "tanh")}
    # where the sine is, its derivative needs the cosine, which comes with it
    unit["cos"] = 0.0
    for name in TRUTHS:
        problem = problems[name]
        tape = compile_tape(derivatives(parse(truth(name), problem.spec.columns)))
        columns = np.ascontiguousarray(problem.train.inputs.T)
        features = tape.features(columns)
        k, count = tape.n_params, len(problem.train)
        theta, g = np.full(k, 1.01), np.empty((k + 1, k + 1))
        program = engine.bind(tape, features, problem.train.target)
        mine = per_call(lambda p=program, t=theta, o=g: engine.gram(p.handle, t, o))
        plain = numpy_engine.bind(tape, features, problem.train.target)
        numpy_seconds = per_call(lambda p=plain, t=theta, o=g: numpy_engine.gram(p, t, o))
        computed = [node.op for node in tape.nodes if node.args]
        hard = [op for op in computed if op in unit]
        floor = count * sum(unit[op] for op in hard)
        stream = np.empty_like(features)
        traffic = per_call(lambda s=stream, f=features: np.copyto(s, f))
        rows.append(
            [
                name,
                str(len(computed)),
                str(len(hard)),
                *(f"{1e6 * s:.0f}" for s in (mine, numpy_seconds, floor, traffic)),
                f"{1e9 * mine / count / len(computed):.2f}",
            ]
        )
    table(
        "One loss and Jacobian on all rows, microseconds",
        [
            "problem",
            "operations",
            "transcendental",
            engine.NAME,
            "numpy engine",
            "its transcendentals alone",
            "copying its inputs",
            "ns per operation and row",
        ],
        rows,
    )


def show_peers(problems: dict[str, Problem]) -> None:
    """Other optimisers, warm and in this process, on the skeletons that they can express."""
    import torch

    torch.set_num_threads(1)
    peers = {
        "scipy least_squares (LM, finite differences)": scipy_least_squares,
        "torch gradient, scipy BFGS": torch_bfgs,
    }
    try:
        peers["pyoperon, LM, float32"] = operon_levenberg_marquardt()
    except ImportError:
        print("pyoperon is not installed", file=sys.stderr)
    ours: dict[tuple[str, int], tuple[float, float]] = {}
    for name, number, body in corpus():
        found, seconds = our_fit(body, problems[name])
        ours[name, number] = (math.inf if found.loss is None else found.loss, seconds)
    rows = [["best", str(len(ours)), f"{sum(s for _, s in ours.values()):.2f}", "1", "", ""]]
    for title, peer in peers.items():
        total = share = 0.0
        done = equal = better = 0
        for name, number, body in corpus():
            began = time.process_time()
            try:
                with np.errstate(all="ignore"):
                    loss = peer(body, problems[name])
            except (ValueError, TypeError, RuntimeError, NotImplementedError, FloatingPointError):
                continue
            if not math.isfinite(loss):
                continue
            done += 1
            total += time.process_time() - began
            share += ours[name, number][1]
            equal += ours[name, number][0] <= 1.001 * loss + 1e-20
            better += ours[name, number][0] < 0.99 * loss
        rows.append([title, str(done), f"{total:.2f}", f"{total / share:.1f}", f"{equal}", f"{better}"])
    head = ["", "finite fits", "CPU seconds", "times ours", "ours <= 1.001x", "ours better by > 1%"]
    table("Peers, warm", head, rows)


def varied(problem: Problem, rows: int, noise: float) -> Problem:
    """The problem with so many rows, drawn again where needed, and noise of that share of the spread."""
    rng = np.random.default_rng(0)
    train = problem.train
    index = np.arange(rows) * len(train) // rows if rows <= len(train) else rng.integers(0, len(train), rows)
    inputs, target = train.inputs[index], train.target[index]
    target = target + noise * target.std() * rng.normal(size=rows)
    split = Split(np.ascontiguousarray(inputs), target)
    return Problem(problem.name, problem.spec, problem.target, {"train": split})


def show_noise(problems: dict[str, Problem]) -> None:
    """True skeletons under noise: what is reached over what the noise alone leaves."""
    rows = []
    for noise in (0.0, 0.01, 0.05, 0.2):
        line = [f"{noise:.0%}"]
        for name in TRUTHS:
            problem = varied(problems[name], len(problems[name].train), noise)
            found, seconds = our_fit(truth(name), problem)
            nmse = (found.loss or math.inf) / float(np.var(problem.train.target))
            line += [f"{nmse:.3g}", f"{1e3 * seconds:.0f}"]
        rows.append(line)
    head = ["noise", *(f"{name} {what}" for name in TRUTHS for what in ("NMSE", "ms"))]
    table("Noise, true skeletons (noise alone leaves noise^2 / (1 + noise^2))", head, rows)


def show_rows(problems: dict[str, Problem]) -> None:
    """CPU time of fits against the number of rows."""
    rows = []
    chosen = [("oscillator2", 2), ("bactgrow", 1), ("oscillator1", 3)]
    for count in (100, 1_000, 10_000, 1_000_000):
        line = [f"{count:,}"]
        for name, number in chosen:
            body = next(b for p, n, b in corpus() if (p, n) == (name, number))
            problem = varied(problems[name], count, 0.05)
            fits = [our_fit(body, problem) for _ in range(3 if count < 100_000 else 1)]
            seconds = min(s for _, s in fits)
            line += [f"{1e3 * seconds:.1f}", f"{1e6 * seconds / count:.2f}"]
        rows.append(line)
    head = ["rows", *(f"{p} #{n} {what}" for p, n in chosen for what in ("ms", "us per row"))]
    table("Rows, 5% noise", head, rows)


TABLES = {
    "corpus": show_corpus,
    "generated": show_generated,
    "truths": show_truths,
    "inner": show_inner,
    "peers": show_peers,
    "noise": show_noise,
    "rows": show_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="which tables; all without names")
    chosen = parser.parse_args().tables or list(TABLES)
    problems = {
        name: load_problem(name) for name in ("oscillator1", "oscillator2", "bactgrow", "stressstrain")
    }
    warm_up()
    for name in chosen:
        TABLES[name](problems)


if __name__ == "__main__":
    main()
