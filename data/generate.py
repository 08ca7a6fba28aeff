"""Rebuilds every synthetic data set bit for bit, on any machine.

    python data/generate.py                  write all data sets beside this file
    python data/generate.py oscillator1      write one
    python data/generate.py --check          compare with the files that are there; exit 1 if any differs
    python data/generate.py --out DIR        write to DIR/<problem>/ instead

Only the standard library is used. Libraries' sin, exp, pow and matrix products differ in the last bit between
processors, so the laws are computed in decimal arithmetic and rounded once to float64, and the oscillators
are integrated by the method of `scipy.integrate.solve_ivp(method="RK45")`, written out in plain float
arithmetic. `data/README.md` states laws and ranges.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIGITS = 40  # of decimal arithmetic; float64 has 17
PI = Decimal("3.14159265358979323846264338327950288419716939937510582")

Row = tuple[float, ...]
Table = tuple[str, list[Row]]  # header line and rows
Law = Callable[[float, float, float], float]


# --- functions in decimal arithmetic, to DIGITS digits -----------------------------------------------------


def _sin(x: Decimal) -> Decimal:
    x = x.remainder_near(2 * PI)
    total = term = x
    square, k = -x * x, 1
    while abs(term) > Decimal(10) ** -DIGITS:
        k += 2
        term *= square / (k * (k - 1))
        total += term
    return total


def _cos(x: Decimal) -> Decimal:
    return _sin(x + PI / 2)


def _tanh(x: Decimal) -> Decimal:
    power = (-2 * abs(x)).exp()
    return ((1 - power) / (1 + power)).copy_sign(x)


# --- the laws: float64 in, the law's value rounded once to float64 out -------------------------------------


def oscillator1_law(t: float, x: float, v: float) -> float:
    p, q = Decimal(x), Decimal(v)
    a = Decimal("0.8") * _sin(p) - q**3 / 2 - Decimal("0.2") * p**3 - p * q / 2 - p * _cos(p)
    return float(a)


def oscillator2_law(t: float, x: float, v: float) -> float:
    p, q = Decimal(x), Decimal(v)
    return float(Decimal("0.3") * _sin(Decimal(t)) - q**3 / 2 - p * q - 5 * p * (p / 2).exp())


def bactgrow_law(b: float, s: float, temp: float, ph: float) -> float:
    d_b, d_s, d_t, d_ph = map(Decimal, (b, s, temp, ph))
    heat = _tanh(Decimal("0.4") * (d_t - 20)) / (1 + Decimal("0.005") * (d_t - 35) ** 4)
    acid = (-abs(d_ph - 7)).exp() * _sin(PI * (d_ph - 2) / 10) ** 2
    return float(d_b / 2 * d_s / (1 + d_s) * heat * acid)


def stressstrain_law(strain: float, temp: float) -> float:
    e = Decimal(strain)
    # room temperature, 20/300, lies a hair below the constant 0.0667
    scaled = max((Decimal(temp) - Decimal("0.0667")) / Decimal("1.0703"), Decimal(0))
    plastic = (Decimal("0.8921") - Decimal("0.3041") * e ** Decimal("3.2557")) * (
        1 - scaled ** Decimal("1.8185")
    )
    return float(min(Decimal("36.2476") * e, plastic))


# --- the integrator ---------------------------------------------------------------------------------------

# Dormand and Prince's pair of orders 5 and 4, and Shampine's interpolant of order 4
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERROR = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
INTERPOLANT = (
    (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
    (0.0, 0.0, 0.0, 0.0),
    (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
    (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
    (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
    (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
    (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
)
RTOL, ATOL = 1e-7, 1e-9

State = tuple[float, float]


def _dot(weights: Sequence[float], values: Sequence[float]) -> float:
    total = 0.0
    for weight, value in zip(weights, values, strict=True):
        total += weight * value
    return total


def _power(base: float, exponent: float) -> float:
    return float(Decimal(base) ** Decimal(exponent))


def _norm(a: State, scale: State) -> float:
    p, q = a[0] / scale[0], a[1] / scale[1]
    return math.sqrt((p * p + q * q) / 2)


def integrate(law: Law, start: State, times: Sequence[float]) -> Iterator[State]:
    """The states (x, v) of x'' = law(t, x, v) at ascending `times`, from `start` at the first of them.

    Adaptive Runge-Kutta steps as scipy's RK45 takes them, with its choice of the first step.
    """

    def slope(t: float, y: State) -> State:
        return y[1], law(t, y[0], y[1])

    t, y, end, done = times[0], start, times[-1], 0
    f = slope(t, y)

    scale = (ATOL + abs(y[0]) * RTOL, ATOL + abs(y[1]) * RTOL)
    d1 = _norm(f, scale)
    h = 0.01 * _norm(y, scale) / d1
    g = slope(t + h, (y[0] + h * f[0], y[1] + h * f[1]))
    d2 = _norm((g[0] - f[0], g[1] - f[1]), scale) / h
    h = min(100 * h, _power(0.01 / max(d1, d2), 0.2))

    while done < len(times):
        rejected = False
        while True:
            t_new = min(t + h, end)
            h = t_new - t
            kx, kv = [f[0]], [f[1]]
            for row, node in zip(STAGES, NODES, strict=True):
                stage = slope(t + node * h, (y[0] + _dot(row, kx) * h, y[1] + _dot(row, kv) * h))
                kx.append(stage[0])
                kv.append(stage[1])
            y_new = (y[0] + h * _dot(WEIGHTS, kx), y[1] + h * _dot(WEIGHTS, kv))
            f_new = slope(t_new, y_new)
            kx.append(f_new[0])
            kv.append(f_new[1])
            scale = (
                ATOL + max(abs(y[0]), abs(y_new[0])) * RTOL,
                ATOL + max(abs(y[1]), abs(y_new[1])) * RTOL,
            )
            error = _norm((_dot(ERROR, kx) * h, _dot(ERROR, kv) * h), scale)
            factor = 0.9 * _power(error, -0.2)
            if error < 1:
                break
            h *= max(0.2, factor)
            rejected = True

        px = [_dot(column, kx) for column in zip(*INTERPOLANT, strict=True)]
        pv = [_dot(column, kv) for column in zip(*INTERPOLANT, strict=True)]
        while done < len(times) and times[done] <= t_new:
            u = (times[done] - t) / h
            powers = (u, u * u, u * u * u, u * u * u * u)
            yield h * _dot(px, powers) + y[0], h * _dot(pv, powers) + y[1]
            done += 1
        t, y, f = t_new, y_new, f_new
        h *= min(1.0 if rejected else 10.0, factor)


# --- the data sets ----------------------------------------------------------------------------------------


def _oscillator(law: Law, with_time: bool) -> dict[str, Table]:
    step = 50 / 49999
    times = [i * step for i in range(49999)] + [50.0]
    states = list(integrate(law, (0.5, 0.5), times))
    indices = {
        "train": range(30001, 50000, 2),
        "test_id": range(30000, 50000, 2),
        "test_ood": range(0, 20000, 2),
    }
    header = "t,x,v,a" if with_time else "x,v,a"
    tables: dict[str, Table] = {}
    for split, chosen in indices.items():
        rows: list[Row] = []
        for i in chosen:
            row = (times[i], *states[i], law(times[i], *states[i]))
            rows.append(row if with_time else row[1:])
        tables[split] = (header, rows)
    return tables


def oscillator1() -> dict[str, Table]:
    return _oscillator(oscillator1_law, with_time=False)


def oscillator2() -> dict[str, Table]:
    return _oscillator(oscillator2_law, with_time=True)


def bactgrow() -> dict[str, Table]:
    narrow = ((1, 5), (1, 5), (1, 40), (2, 12))
    wide = ((1, 10), (1, 10), (1, 60), (1, 14))
    tables: dict[str, Table] = {}
    for split, n_rows, box, seed in (
        ("train", 7500, narrow, 1),
        ("test_id", 2500, narrow, 2),
        ("test_ood", 15000, wide, 3),
    ):
        draw = random.Random(seed)
        rows: list[Row] = []
        for _ in range(n_rows):
            inputs = [round(low + (high - low) * draw.random(), 4) for low, high in box]
            rows.append((*inputs, bactgrow_law(*inputs)))
        tables[split] = ("b,s,temp,pH,db", rows)
    return tables


def stressstrain() -> dict[str, Table]:
    celsius = {"train": (20, 100, 150, 250, 300), "test_id": (20, 100, 150, 250, 300), "test_ood": (200,)}
    tables: dict[str, Table] = {}
    for split, n_rows, seed in (("train", 2161, 1), ("test_id", 1442, 2), ("test_ood", 738, 3)):
        draw = random.Random(seed)
        rows: list[Row] = []
        for i in range(n_rows):
            strain = round(draw.random(), 9)
            temp = round(celsius[split][i % len(celsius[split])] / 300, 9)
            rows.append((strain, temp, stressstrain_law(strain, temp)))
        tables[split] = ("strain,temp,stress", rows)
    return tables


# where the files of a problem lie, and what builds them
DATA_SETS: dict[str, tuple[str, Callable[[], dict[str, Table]]]] = {
    "oscillator1": ("oscillator1", oscillator1),
    "oscillator2": ("oscillator2", oscillator2),
    "bactgrow": ("bactgrow", bactgrow),
    "stressstrain": ("stressstrain/synthetic", stressstrain),
}


def build(problem: str) -> dict[str, bytes]:
    """The bytes of each file of a problem, by its path relative to the data folder."""
    folder, make = DATA_SETS[problem]
    files = {}
    with localcontext() as context:
        context.prec = DIGITS
        for split, (header, rows) in make().items():
            # repr is the shortest text that reads back as the same float64
            lines = [header, *(",".join(map(repr, row)) for row in rows)]
            files[f"{folder}/{split}.csv"] = ("\n".join(lines) + "\n").encode()
    return files


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("problem", nargs="*", help=f"any of {', '.join(DATA_SETS)}; all without one")
    parser.add_argument(
        "--check", action="store_true", help="compare instead of writing; exit 1 on a difference"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="the data folder (default: beside this file)")
    options = parser.parse_args(arguments)
    unknown = [p for p in options.problem if p not in DATA_SETS]
    if unknown:
        parser.error(f"unknown problem {unknown[0]}; choose from {', '.join(DATA_SETS)}")

    differing = 0
    for problem in options.problem or DATA_SETS:
        for name, content in build(problem).items():
            path = options.out / name
            if not options.check:
                _write(path, content)
                print(f"wrote {path}")
            elif not path.is_file() or path.read_bytes() != content:
                differing += 1
                print(f"{'differs' if path.is_file() else 'missing'}: {path}")
            else:
                print(f"same {path}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
