"""Golden files of numbers without a network: schedules, respaced processes, timestep embeddings.

Everything here is float64, but for the embeddings.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np

from model.diffusion.deprecated import DeprecatedSchedule, deprecated_betas
from model.diffusion.schedule import FloatArray, NoiseSchedule, ScheduleName, noise_schedule
from model.diffusion.spacing import space_timesteps
from model.errors import GoldenFileError
from model.evaluation.verification.golden import Golden
from model.networks.layers import timestep_embedding

_SCHEDULES: Mapping[str, ScheduleName] = {
    "squaredcos_cap_v2": "cosine",
    "cosine": "cosine",
    "linear": "linear",
}

TABLES: Mapping[str, Callable[[NoiseSchedule], FloatArray]] = {
    "betas": lambda process: process.betas,
    "alphas_cumprod": lambda process: process.alpha_bar,
    "alphas_cumprod_prev": lambda process: process.alpha_bar_prev,
    "alphas_cumprod_next": lambda process: process.alpha_bar_next,
    "sqrt_alphas_cumprod": lambda process: process.sqrt_alpha_bar,
    "sqrt_one_minus_alphas_cumprod": lambda process: process.sqrt_one_minus_alpha_bar,
    "log_one_minus_alphas_cumprod": lambda process: np.log(1 - process.alpha_bar),
    "sqrt_recip_alphas_cumprod": lambda process: np.sqrt(1 / process.alpha_bar),
    "sqrt_recipm1_alphas_cumprod": lambda process: np.sqrt(1 / process.alpha_bar - 1),
    "posterior_variance": lambda process: process.posterior_variance,
    "posterior_log_variance_clipped": lambda process: process.posterior_log_variance_clipped,
    "posterior_mean_coef1": lambda process: process.posterior_mean_coef1,
    "posterior_mean_coef2": lambda process: process.posterior_mean_coef2,
}
"""A process' tables under their names in the original code."""


def original_schedule(name: str, timesteps: int) -> NoiseSchedule:
    """The trained process that the original code calls `name`.

    Raises:
        GoldenFileError: it has no such schedule.
    """
    if name not in _SCHEDULES:
        raise GoldenFileError(f"no noise schedule is called {name!r}")
    return noise_schedule(_SCHEDULES[name], timesteps)


class Spaced(NamedTuple):
    """The process of some timesteps of a trained one, and which they are."""

    process: NoiseSchedule
    timestep_map: tuple[int, ...]


def spaced_process(name: str, timesteps: int, spec: Any) -> Spaced:
    """The process that a schedule's name, its length and a respacing of the metadata stand for.

    Its ᾱ is multiplied up from its β, as the originals do, which loses digits where β is close to
    1; `NoiseSchedule.respaced` keeps the trained process' own. Only tables that divide by a ᾱ near
    0 show it.
    """
    grid = space_timesteps(respacing(spec, timesteps), timesteps)
    betas = original_schedule(name, timesteps).respaced(grid).betas
    return Spaced(NoiseSchedule(np.cumprod(1 - betas, dtype=np.float64), betas), grid)


def respacing(spec: Any, timesteps: int) -> str:
    """A respacing of the metadata as this project writes it: all timesteps where it is empty."""
    if isinstance(spec, list):
        spec = ",".join(map(str, spec))
    return str(spec) or str(timesteps)


def check_schedules(golden: Golden) -> None:
    """`<name>_<T>/<table>` of every listed schedule."""
    for name, timesteps in golden.meta["schedules"]:
        process = original_schedule(name, timesteps)
        _check_tables(golden, f"{name}_{timesteps}", process)


def check_deprecated_schedules(golden: Golden) -> None:
    """The betas of ADM's older schedules, one array for each."""
    timesteps = golden.meta["T"]
    start, end = golden.meta["beta_start"], golden.meta["beta_end"]
    for name in get_args(DeprecatedSchedule):
        golden.check(
            name, partial(deprecated_betas, name, timesteps, beta_start=start, beta_end=end)
        )


def check_respacing(golden: Golden) -> None:
    """`<case>/timestep_map` and `<case>/<table>` of every listed case."""
    for case in golden.meta["cases"]:
        name, timesteps, spec = case.rsplit("_", 2)
        process, grid = spaced_process(name, int(timesteps), spec)
        golden.check(f"{case}/timestep_map", np.array(grid))
        _check_tables(golden, case, process)


def check_timestep_embedding(golden: Golden) -> None:
    """`emb` of width `dim`, `emb<dim>` of each of `dims`."""
    t = golden.tensor("t")
    if "dim" not in golden.meta and "dims" not in golden.meta:
        raise GoldenFileError("meta_json has neither 'dim' nor 'dims'")
    if "dim" in golden.meta:
        golden.check("emb", timestep_embedding(t, golden.meta["dim"]))
    for width in golden.meta.get("dims", ()):
        golden.check(f"emb{width}", timestep_embedding(t, width))


def _check_tables(golden: Golden, case: str, process: NoiseSchedule) -> None:
    if not any(name.startswith(f"{case}/") for name in golden.names):
        raise GoldenFileError(f"meta_json lists {case}, of which the file holds nothing")
    for table, compute in TABLES.items():
        golden.check(f"{case}/{table}", partial(compute, process))
