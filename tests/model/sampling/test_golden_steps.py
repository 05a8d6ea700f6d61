"""Single steps of the original code, carried out by the denoising step."""

import pytest
import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.diffusion.losses import diffuse, gather
from model.diffusion.prediction import Parameterization, learned_log_variance
from model.diffusion.schedule import ScheduleName, noise_schedule
from model.diffusion.spacing import space_timesteps
from model.params import GuideName, SamplerName, Thresholding
from model.sampling.plan import SamplingPlan, build_plan, encoding_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.golden_data import Golden

SCHEDULES: dict[str, ScheduleName] = {"squaredcos_cap_v2": "cosine", "linear": "linear"}


class Recorded:
    """Answers with the stored output and keeps the timesteps it was asked for."""

    def __init__(self, output: Tensor) -> None:
        self._output = output
        self.asked = torch.empty(0)

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        self.asked = t
        return self._output


class RecordedGuide:
    """The function of x_t and t that the golden files were guided by."""

    def __init__(self, golden: Golden) -> None:
        self._gradient = golden.tensor("grad_G")
        self._timesteps = golden.meta["T"]

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        later: Tensor = (1 + t / self._timesteps)[:, None, None, None]
        return self._gradient * later - 0.1 * x_t


class OneStep:
    """A golden file's rows, each moved on by one step of its own."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.schedule = noise_schedule(SCHEDULES[golden.meta["noise_schedule"]], golden.meta["T"])
        self.x_t = golden.tensor("x_t")
        self.t = golden.tensor("t")
        self.known = [
            Conditioning(image=image, mask=mask)
            for image, mask in zip(
                golden.tensor("inpaint_known"), golden.tensor("inpaint_mask"), strict=True
            )
        ]
        self.denoiser = Recorded(golden.tensor("model_output"))
        self.guides = {GuideName.CLIP: RecordedGuide(golden)}

    def plan(self, sampler: SamplerName, eta: float = 0.0) -> SamplingPlan:
        respacing = self.golden.meta["timestep_respacing"]
        return build_plan(sampler, self.schedule, respacing, eta=eta, variance="learned_range")

    def index(self, plan: SamplingPlan, t: int) -> int:
        """The plan's step that starts at timestep t of the respaced process."""
        ascending = plan.timesteps[0] < plan.timesteps[-1]
        return t if ascending else plan.steps - 1 - t

    def run(
        self,
        plan: SamplingPlan,
        noise: Tensor,
        thresholding: Thresholding = Thresholding.STATIC,
        inpaint: bool = False,
        guided: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The rows' x_{t-1} and x̂₀."""
        rows = [
            Trajectory(
                plan=plan,
                x=self.x_t[row],
                conditioning=self.known[row] if inpaint else Conditioning(),
                thresholding=thresholding,
                seed=row,
                step=self.index(plan, int(self.t[row])),
                guide_scales={GuideName.CLIP: float(guided)},
                noise=lambda seed, stage, step, shape: noise[seed],
            )
            for row in range(len(self.t))
        ]
        parameterization = Parameterization("epsilon", "learned_range", self.schedule)
        denoise_step(self.denoiser, rows, parameterization, self.guides)
        images = [row.x0 for row in rows if row.x0 is not None]
        return torch.stack([row.x for row in rows]), torch.stack(images)


@pytest.mark.parametrize("name", ["steps_cosine_100", "steps_linear_fast27"])
def test_single_steps_are_those_of_the_original(name: str) -> None:
    golden = Golden(name)
    steps = OneStep(golden)
    check_forward_process(steps)
    check_ancestral(steps)
    check_implicit(steps)
    golden.finish()


def check_forward_process(steps: OneStep) -> None:
    golden, t, x_t = steps.golden, steps.t, steps.x_t
    x_0, noise = golden.tensor("x0"), golden.tensor("noise")
    grid = space_timesteps(golden.meta["timestep_respacing"], steps.schedule.timesteps)
    process = steps.schedule.respaced(grid)

    def row(table: Tensor) -> Tensor:
        return table[:, None, None, None].expand(x_0.shape).float()

    alpha_bar = gather(process.alpha_bar, t)
    golden.check("x_t", diffuse(x_0, noise, alpha_bar))
    golden.check("q_mean", row(alpha_bar.sqrt()) * x_0)
    golden.check("q_variance", row(1 - alpha_bar))
    golden.check("q_log_variance", row(torch.log1p(-alpha_bar)))
    coef1, coef2 = process.posterior_mean_coef1, process.posterior_mean_coef2
    golden.check("post_mean", row(gather(coef1, t)) * x_0 + row(gather(coef2, t)) * x_t)
    golden.check("post_variance", row(gather(process.posterior_variance, t)))
    golden.check("post_log_variance", row(gather(process.posterior_log_variance_clipped, t)))


def check_ancestral(steps: OneStep) -> None:
    golden, z = steps.golden, steps.golden.tensor("z")
    plan = steps.plan(SamplerName.DDPM)
    logs = [plan.log_variances(plan.steps - 1 - int(t)) for t in steps.t]
    bounds = torch.tensor([log for log in logs if log is not None], dtype=torch.float64)
    log_variance = learned_log_variance(golden.tensor("model_output")[:, 3:], *bounds.unbind(1))
    for clip, mode in ((1, Thresholding.STATIC), (0, Thresholding.NONE)):
        mean, image = steps.run(plan, torch.zeros_like(z), mode)
        golden.check(f"pmv_clip{clip}/mean", mean)
        golden.check(f"pmv_clip{clip}/pred_xstart", image)
        golden.check(f"pmv_clip{clip}/log_variance", log_variance)
        golden.check(f"pmv_clip{clip}/variance", log_variance.exp())
    golden.check("model_t", steps.denoiser.asked)
    golden.check("cond_t", steps.denoiser.asked)
    for case, got in {
        "p_sample": steps.run(plan, z),
        "p_sample_noclip": steps.run(plan, z, Thresholding.NONE),
        "p_sample_inpaint": steps.run(plan, z, inpaint=True),
        "p_sample_guided": steps.run(plan, z, guided=True),
    }.items():
        golden.check(f"{case}/sample", got[0])
        golden.check(f"{case}/pred_xstart", got[1])


def check_implicit(steps: OneStep) -> None:
    golden, z = steps.golden, steps.golden.tensor("z")
    for eta in golden.meta["etas"]:
        plan = steps.plan(SamplerName.DDIM, eta)
        sample, image = steps.run(plan, z)
        golden.check(f"ddim_eta{eta}/sample", sample)
        golden.check(f"ddim_eta{eta}/pred_xstart", image)
    sample, _ = steps.run(plan, z, Thresholding.NONE, inpaint=True)
    golden.check("ddim_inpaint_noclip/sample", sample)
    sample, image = steps.run(steps.plan(SamplerName.DDIM), z, guided=True)
    golden.check("ddim_guided/sample", sample)
    golden.check("ddim_guided/pred_xstart", image)
    reverse = encoding_plan(steps.schedule, golden.meta["timestep_respacing"])
    sample, _ = steps.run(reverse, z)
    golden.check("ddim_reverse/sample", sample)
