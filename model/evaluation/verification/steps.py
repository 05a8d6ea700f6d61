"""Golden files of single steps: the forward process, and one denoising step in every variant."""

from typing import NamedTuple

import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.diffusion.losses import diffuse, gather, posterior_mean
from model.diffusion.prediction import Parameterization, learned_log_variance
from model.diffusion.schedule import FloatArray
from model.evaluation.verification.golden import Golden
from model.evaluation.verification.tables import original_schedule, respacing, spaced_process
from model.params import GuideName, SamplerName, Thresholding
from model.sampling.plan import SamplingPlan, build_plan, encoding_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory

_INPUTS = (
    "x0",
    "noise",
    "t",
    "model_output",
    "z",
    "grad_G",
    "inpaint_mask",
    "inpaint_known",
)


class _Recorded:
    """A network that answers with the stored output, and a guide; both keep the t they heard."""

    def __init__(self, golden: Golden) -> None:
        self._golden = golden
        self.asked: Tensor | None = None
        self.guided_at: Tensor | None = None

    def denoise(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The stored output."""
        self.asked = t
        return self._golden.tensor("model_output")

    def guide(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """G (1 + t / T) - 0.1 x_t, t of the trained process."""
        self.guided_at = t
        factor = 1 + t.float() / self._golden.meta["T"]
        gradient: Tensor = self._golden.tensor("grad_G") * factor[:, None, None, None] - 0.1 * x_t
        return gradient


class _Variant(NamedTuple):
    """One way to take the step."""

    plan: SamplingPlan
    clip: bool = True
    guided: bool = False
    inpaint: bool = False
    noisy: bool = True


class _Rows:
    """A file's rows, each at a timestep of its own."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        meta = golden.meta
        self.schedule = original_schedule(meta["noise_schedule"], meta["T"])
        self.spacing = respacing(meta["timestep_respacing"], meta["T"])
        self.process, self.grid = spaced_process(
            meta["noise_schedule"], meta["T"], meta["timestep_respacing"]
        )
        self.t = golden.tensor("t").long()
        self.network = _Recorded(golden)
        found = self._diffused()
        golden.check("x_t", found)
        self.x_t = golden.tensor("x_t") if golden.has("x_t") else found

    def _diffused(self) -> Tensor:
        alpha_bar = gather(self.process.alpha_bar, self.t)
        return diffuse(self.golden.tensor("x0"), self.golden.tensor("noise"), alpha_bar)

    def plan(self, sampler: SamplerName, eta: float = 0.0) -> SamplingPlan:
        """The run that the file's steps belong to."""
        return build_plan(sampler, self.schedule, self.spacing, eta=eta, variance="learned_range")

    def encoding(self) -> SamplingPlan:
        """The run from images to noise."""
        return encoding_plan(self.schedule, self.spacing)

    def take(self, variant: _Variant) -> tuple[Tensor, Tensor]:
        """All rows' x after the step, and their x̂₀."""
        rows = [self._trajectory(row, variant) for row in range(len(self.t))]
        parameterization = Parameterization("epsilon", "learned_range", self.schedule)
        guides = {GuideName.CLASSIFIER: self.network.guide}
        denoise_step(self.network.denoise, rows, parameterization, guides)
        images = [row.x0 for row in rows if row.x0 is not None]
        return torch.stack([row.x for row in rows]), torch.stack(images)

    def _trajectory(self, row: int, variant: _Variant) -> Trajectory:
        plan, timestep = variant.plan, self.grid[int(self.t[row])]
        known = Conditioning()
        if variant.inpaint:
            image, mask = self.golden.tensor("inpaint_known"), self.golden.tensor("inpaint_mask")
            known = Conditioning(image=image[row], mask=mask[row])
        return Trajectory(
            plan=plan,
            x=self.x_t[row],
            conditioning=known,
            guide_scales={GuideName.CLASSIFIER: 1.0} if variant.guided else {},
            thresholding=Thresholding.STATIC if variant.clip else Thresholding.NONE,
            seed=row,
            step=plan.timesteps.tolist().index(timestep),
            noise=self._noise if variant.noisy else _no_noise,
        )

    def _noise(self, seed: int, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self.golden.array("z"))[seed]


def _no_noise(seed: int, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape)


def check_steps(golden: Golden) -> None:
    """`steps_*`: every variant that the file has."""
    golden.accept(_INPUTS)
    rows = _Rows(golden)
    _check_forward_process(rows)
    _check_reverse_process(rows)
    ancestral = rows.plan(SamplerName.DDPM)
    implicit, etas = rows.plan(SamplerName.DDIM), golden.meta["etas"]
    variants = {
        "p_sample": _Variant(ancestral),
        "p_sample_noclip": _Variant(ancestral, clip=False),
        "p_sample_guided": _Variant(ancestral, guided=True),
        "p_sample_inpaint": _Variant(ancestral, inpaint=True),
        "ddim_guided": _Variant(implicit, guided=True),
        "ddim_reverse": _Variant(rows.encoding()),
    } | {f"ddim_eta{eta}": _Variant(rows.plan(SamplerName.DDIM, eta)) for eta in etas}
    if etas:
        noisiest = rows.plan(SamplerName.DDIM, etas[-1])
        variants["ddim_inpaint_noclip"] = _Variant(noisiest, clip=False, inpaint=True)
    for name, variant in variants.items():
        if golden.has(f"{name}/sample") or golden.has(f"{name}/pred_xstart"):
            sample, image = rows.take(variant)
            golden.check(f"{name}/sample", sample)
            golden.check(f"{name}/pred_xstart", image)
    _check_timesteps(rows, _Variant(ancestral, guided=golden.has("cond_t"), noisy=False))


def _check_timesteps(rows: _Rows, variant: _Variant) -> None:
    """What t the network and the guide hear."""
    if not (rows.golden.has("model_t") or rows.golden.has("cond_t")):
        return
    rows.take(variant)
    for name, heard in (("model_t", rows.network.asked), ("cond_t", rows.network.guided_at)):
        if heard is not None:
            rows.golden.check(name, heard)


def _check_forward_process(rows: _Rows) -> None:
    golden, process, t, x_t = rows.golden, rows.process, rows.t, rows.x_t

    def spread(table: FloatArray) -> Tensor:
        """A table's entries as wide as the pictures."""
        return gather(table, t)[:, None, None, None].expand(x_t.shape).float()

    alpha_bar = process.alpha_bar
    x_0 = golden.tensor("x0")
    golden.check("q_mean", lambda: spread(process.sqrt_alpha_bar) * x_0)
    golden.check("q_variance", lambda: spread(1 - alpha_bar))
    golden.check("q_log_variance", lambda: spread(_log1m(alpha_bar)))
    golden.check("post_mean", lambda: posterior_mean(process, x_0, x_t, t))
    golden.check("post_variance", lambda: spread(process.posterior_variance))
    golden.check("post_log_variance", lambda: spread(process.posterior_log_variance_clipped))


def _log1m(alpha_bar: FloatArray) -> FloatArray:
    result: FloatArray = torch.log1p(-torch.from_numpy(alpha_bar)).numpy()
    return result


def _check_reverse_process(rows: _Rows) -> None:
    """Mean and variance, from a step whose noise is 0 and from the plan's bounds."""
    golden = rows.golden
    plan = rows.plan(SamplerName.DDPM)
    for clip in (True, False):
        case = f"pmv_clip{int(clip)}"
        if not any(name.startswith(f"{case}/") for name in golden.names):
            continue
        mean, image = rows.take(_Variant(plan, clip=clip, noisy=False))
        golden.check(f"{case}/mean", mean)
        golden.check(f"{case}/pred_xstart", image)
        log_variance = _log_variance(rows, plan)
        golden.check(f"{case}/log_variance", log_variance)
        golden.check(f"{case}/variance", log_variance.exp())


def _log_variance(rows: _Rows, plan: SamplingPlan) -> Tensor:
    logs = [plan.log_variances(plan.steps - 1 - int(t)) for t in rows.t]
    bounds = torch.tensor([log for log in logs if log is not None], dtype=torch.float64)
    fraction = rows.golden.tensor("model_output")[:, rows.x_t.shape[1] :]
    return learned_log_variance(fraction, *bounds.unbind(1))
