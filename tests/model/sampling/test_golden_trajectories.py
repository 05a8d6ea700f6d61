"""Whole runs of the original code: its network, filled by rule, through the denoising step."""

import pytest
import torch
from torch import Tensor, nn

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import NoiseSchedule, noise_schedule
from model.networks.text_unet import TextUNet
from model.params import SamplerName
from model.sampling.plan import build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.golden_data import Golden
from tests.reference_networks import network_from_options


class Watched:
    """A network that keeps its first answer."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.first = torch.empty(0)

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        output: Tensor = self._network(x_t, t, conditioning)
        self.first = self.first if self.first.numel() else output
        return output


def first_trajectory(golden: Golden, network: TextUNet, schedule: NoiseSchedule) -> Trajectory:
    meta = golden.meta
    tokens, mask = golden.tensor("tokens").long(), golden.tensor("mask")
    with torch.no_grad():
        pooled, keys_values = network.encode_text(tokens, mask)
    caption, empty = (
        Conditioning(pooled=pooled[row], keys_values=keys_values[row]) for row in (0, 1)
    )
    stochastic = meta["sampler"] == "ddpm"
    drawn = golden.tensor("noise") if stochastic else torch.empty(0)
    plan = build_plan(
        SamplerName(meta["sampler"]),
        schedule,
        meta["timestep_respacing"],
        eta=meta["eta"],
        variance="learned_range",
    )
    return Trajectory(
        plan=plan,
        x=golden.tensor("x_T")[0],
        conditioning=caption,
        unconditional=empty,
        guidance_scale=meta["cfg_scale"],
        noise=lambda seed, stage, step, shape: drawn[step, 0],
    )


@pytest.mark.parametrize("name", ["traj_ddim10_cfg3", "traj_ddpm10_cfg3"])
def test_guided_runs_are_those_of_the_original(name: str) -> None:
    golden = Golden(name)
    options = golden.meta["options"]
    assert golden.meta["noise_schedule"] == "squaredcos_cap_v2"
    schedule = noise_schedule("cosine", options["diffusion_steps"])
    network = network_from_options(options)
    denoiser = Watched(network)
    trajectory = first_trajectory(golden, network, schedule)
    golden.check("timestep_map", trajectory.plan.timesteps[::-1])
    samples, images = [], []
    while not trajectory.done:
        denoise_step(denoiser, [trajectory], Parameterization("epsilon", "learned_range", schedule))
        assert trajectory.x0 is not None
        samples.append(trajectory.x)
        images.append(trajectory.x0)
    caption, empty = denoiser.first
    eps = empty[:3] + golden.meta["cfg_scale"] * (caption[:3] - empty[:3])
    golden.check("model_out_first", torch.cat([eps, caption[3:]])[None])
    kept = golden.array("kept_steps").tolist()
    golden.check("samples", torch.stack([samples[step] for step in kept])[:, None])
    golden.check("pred_xstart", torch.stack([images[step] for step in kept])[:, None])
    golden.check("final", trajectory.x[None])
    golden.finish()
