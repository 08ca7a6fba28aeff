"""The fit of one expression to a problem's train split: a registry of modes over one tape."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from scipy import optimize

from llmsr.expression import engine_numpy
from llmsr.expression.derive import derivatives, linear_params
from llmsr.expression.graph import Expression, evaluate
from llmsr.expression.tape import Tape, compile_tape
from llmsr.fitting.result import Fit

MODES = ("best", "bfgs", "reference")


class _Objective:
    def __init__(self, tape: Tape, inputs: np.ndarray, target: np.ndarray, deadline: float) -> None:
        self.tape, self.target = tape, target
        self.features = tape.features(np.ascontiguousarray(inputs.T))
        self.registers = engine_numpy.new_registers(tape)
        self.deadline, self.evaluations = deadline, 0
        self.best, self.best_theta = np.inf, np.ones(tape.n_params)

    def gram(self, theta: np.ndarray) -> np.ndarray:
        if time.perf_counter() > self.deadline:
            raise TimeoutError
        self.evaluations += 1
        gram = engine_numpy.gram(self.tape, theta, self.features, self.target, self.registers)
        if gram[-1, -1] < self.best:
            self.best, self.best_theta = gram[-1, -1], np.array(theta)
        return gram

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        gram = self.gram(theta)
        n = len(self.target)
        return gram[-1, -1] / n, -2.0 * gram[-1, :-1] / n


def _solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diag(a))
    scale[scale == 0] = 1.0
    scaled = a / np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += 1e-14
    return np.linalg.lstsq(scaled, b / scale, rcond=1e-15)[0] / scale


def _descend(objective: _Objective, theta: np.ndarray, linear: np.ndarray, iterations: int) -> None:
    """Levenberg-Marquardt with the linear parameters left undamped."""
    gram = objective.gram(theta)
    damping, k = 1e-3, len(theta)
    if not np.isfinite(gram[k, k]):
        return
    for _ in range(iterations):
        normal = gram[:k, :k].copy()
        diagonal = np.where(linear, 0.0, np.diag(normal) * damping + 1e-300)
        normal[np.diag_indices(k)] += diagonal
        trial = theta + _solve(normal, gram[k, :k])
        trial_gram = objective.gram(trial)
        if linear.any() and np.isfinite(trial_gram[k, k]):
            refined = trial.copy()
            part = np.flatnonzero(linear)
            refined[part] += _solve(trial_gram[np.ix_(part, part)], trial_gram[k, part])
            refined_gram = objective.gram(refined)
            if refined_gram[k, k] < trial_gram[k, k]:
                trial, trial_gram = refined, refined_gram
        if trial_gram[k, k] < gram[k, k]:
            gain = gram[k, k] - trial_gram[k, k]
            done = gain <= 1e-9 * gram[k, k]
            theta, gram, damping = trial, trial_gram, damping * 0.2
            if done:
                return
        else:
            damping = max(damping, 1e-8) * 8.0
            if damping > 1e12:
                return


def fit(expression: Expression, problem, mode: str = "best", deadline: float = 10.0) -> Fit:
    """The constants of `expression` that fit the train split of `problem`, within `deadline` seconds."""
    if mode not in MODES:
        raise ValueError(f"unknown fit mode {mode!r}; choose one of {', '.join(MODES)}")
    if mode == "reference" or not problem.spec.least_squares:
        from llmsr.fitting.reference import fit_reference

        return fit_reference(expression, problem, deadline)
    began, cpu_began = time.perf_counter(), time.thread_time()
    split = problem.splits["train"]
    tape = compile_tape(derivatives(expression))
    linear = np.isin(tape.params, linear_params(expression))
    objective = _Objective(tape, split.inputs, split.target, began + deadline)
    late = False
    with np.errstate(all="ignore"):
        try:
            ones = np.ones(tape.n_params)
            if tape.n_params == 0:
                objective.gram(ones)
            else:
                if mode == "best":
                    _descend(objective, ones, linear, 100)
                if mode == "bfgs" or not linear.all():
                    found = optimize.minimize(objective.value_and_gradient, ones, jac=True, method="BFGS")
                    if mode == "best":
                        _descend(objective, found.x, linear, 100)
        except TimeoutError:
            late = True
    params = np.ones(max(problem.spec.max_params, max(expression.params, default=-1) + 1))
    params[list(tape.params)] = objective.best_theta
    prediction = evaluate(expression, split.inputs, params)
    with np.errstate(all="ignore"):
        loss = float(np.mean((prediction - split.target) ** 2))
    ok = bool(np.isfinite(loss))
    return Fit(
        "ok" if ok else "nonfinite",
        "" if ok else "the equation is not finite on every train row",
        mode,
        tuple(params.tolist()),
        loss if ok else None,
        objective.evaluations,
        time.perf_counter() - began,
        time.thread_time() - cpu_began,
        late,
        "numpy",
    )


def fit_many(problem, bodies: Sequence[str], mode: str = "best", deadline: float = 10.0) -> list:
    """The fit, or the refusal, of every body text, in order."""
    from llmsr.expression import Expression as Parsed
    from llmsr.expression import parse

    spec = problem.spec
    results = []
    for body in bodies:
        parsed = parse(body, spec.columns, params_name=spec.params_name, max_params=spec.max_params)
        results.append(fit(parsed, problem, mode, deadline) if isinstance(parsed, Parsed) else parsed)
    return results
