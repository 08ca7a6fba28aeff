import pytest

from llmsr.fitting import Fit, fit_many
from llmsr.problem.loading import load_problem

BODIES = [
    "return params[0]*np.sin(params[1]*x) + params[2]*v**3 + params[3]*x*v",
    "import os",
    "return params[0]*x + params[1]",
]


def test_fit_many_gives_the_same_bits_inside_a_ray_task():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        problem = load_problem("oscillator1")
        task = ray.remote(fit_many)
        elsewhere = ray.get([task.remote(ray.put(problem), BODIES) for _ in range(2)])
    finally:
        ray.shutdown()
    here = fit_many(problem, BODIES)
    for results in elsewhere:
        for there, ours in zip(results, here, strict=True):
            assert isinstance(there, Fit) == isinstance(ours, Fit)
            if isinstance(ours, Fit):
                assert (there.loss, list(there.params)) == (ours.loss, list(ours.params))
