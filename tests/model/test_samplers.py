import numpy as np
import pytest

from model.diffusion.schedule import noise_schedule
from model.params import SamplerName
from model.samplers import SAMPLER_FACTS
from model.sampling.plan import build_plan


def test_every_sampler_is_told_of() -> None:
    assert set(SAMPLER_FACTS) == set(SamplerName)


@pytest.mark.parametrize("name", SamplerName)
def test_what_is_told_is_what_the_tables_do(name: SamplerName) -> None:
    facts, schedule = SAMPLER_FACTS[name], noise_schedule("cosine", 1000)
    plan = build_plan(name, schedule, facts.steps)
    eta = build_plan(name, schedule, facts.steps, eta=1.0)
    assert plan.history == facts.history
    assert bool(np.any(plan.weights[:, -1])) is facts.stochastic
    assert (not np.array_equal(plan.weights, eta.weights)) is facts.takes_eta
