"""`glide explain`: the diffusion process as one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import CheckpointError
from model.params import SamplingParams
from service.cli import requests
from service.cli.serving import load_settings
from service.wiring import build_catalog

if TYPE_CHECKING:
    from torch import Tensor

    from model.catalog import PipelineSpec
    from model.diffusion.schedule import NoiseSchedule

COLUMNS = 8


def explain(
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG.")] = Path("explain.png"),
    prompt: Annotated[
        str, typer.Option(help="What is drawn in the strips.")
    ] = "a red apple on the grass",
    seed: Annotated[int, typer.Option(min=0, help="Of the strips.")] = 0,
    steps: Annotated[int, typer.Option(min=COLUMNS, help="Of the reverse strips.")] = 32,
    model: requests.Model = None,
) -> None:
    """Draw how diffusion works: the forward and reverse strips and the signal-to-noise ratio."""
    catalog = build_catalog(load_settings())
    name = model or next(iter(catalog), "")
    if name not in catalog:
        known = ", ".join(sorted(catalog)) or "none"
        raise CheckpointError(f"There is no pipeline {name!r}; there are: {known}.")
    spec = catalog[name]
    strips = _strips(spec, prompt, seed, steps)
    _draw(spec, strips, output)
    typer.echo(str(output))


def _strips(
    spec: "PipelineSpec", prompt: str, seed: int, steps: int
) -> dict[str, list[tuple[int, "Tensor"]]]:
    """(timestep, image) of every cell: q(x_t) of the finished picture, x_t and x̂₀ on the way."""
    import torch

    from model.pipeline import Pipeline
    from model.sampling.noise import INITIAL, noise
    from model.sampling.step import denoise_step

    pipeline = Pipeline.load(spec, torch.device("cpu"), torch.float32)
    side = spec.base.resolution
    (trajectory,) = pipeline.prepare(
        SamplingParams(
            prompt=prompt,
            model=spec.name,
            width=side,
            height=side,
            seed=seed,
            steps=steps,
            sampler=spec.base.sampler,
            guidance_scale=spec.guidance_scale,
            guidance_interval=spec.guidance_interval,
        )
    )
    denoiser, parameterization = pipeline.denoiser("base"), pipeline.parameterization("base")
    shown = {round(column * (steps - 1) / (COLUMNS - 1)) for column in range(COLUMNS)}
    noisy, clean = [], []
    while not trajectory.done:
        index, t, x_t = trajectory.step, trajectory.timestep, trajectory.x
        denoise_step(denoiser, [trajectory], parameterization)
        if index in shown and trajectory.x0 is not None:
            noisy.append((t, x_t))
            clean.append((t, trajectory.x0))
    schedule = parameterization.schedule
    eps = noise(seed, 0, INITIAL, (3, side, side))
    forward = [(t, _diffuse(trajectory.x, eps, schedule, t)) for t, _ in reversed(noisy)]
    return {"q(x_t | x_0)": forward, "x_t": noisy, "estimate of x_0": clean}


def _diffuse(x_0: "Tensor", eps: "Tensor", schedule: "NoiseSchedule", t: int) -> "Tensor":
    """x_t of q(x_t | x_0): Ho et al. 2020, eq. 4, arXiv:2006.11239."""
    signal, spread = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return float(signal) * x_0 + float(spread) * eps


def _draw(
    spec: "PipelineSpec", strips: dict[str, list[tuple[int, "Tensor"]]], output: Path
) -> None:
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    from matplotlib.figure import Figure

    from model.diffusion.schedule import noise_schedule

    figure = Figure(figsize=(1.3 * COLUMNS, 8.2), layout="constrained")
    grid = figure.add_gridspec(len(strips) + 1, COLUMNS, height_ratios=[1.2, 1.2, 1.2, 2.4])
    for row, (title, cells) in enumerate(strips.items()):
        for column, (t, image) in enumerate(cells):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
            axes.set(xticks=[], yticks=[], title=f"t = {t}")
            if column == 0:
                axes.set_ylabel(title)
    axes = figure.add_subplot(grid[len(strips), :])
    for stage in spec.stages:
        snr = noise_schedule(stage.schedule, stage.timesteps).snr
        axes.semilogy(np.arange(len(snr)), snr, label=f"{stage.name}: {stage.schedule}")
    axes.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="timestep t", ylabel="signal-to-noise ratio", xlim=(0, None))
    axes.legend()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110, format="png")
