"""Golden files of whole runs: a network of GLIDE's options through the denoising step."""

import torch
from torch import Tensor, nn

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.errors import GoldenFileError
from model.evaluation.verification.denoisers import glide_network, read_conditioning
from model.evaluation.verification.golden import Golden
from model.evaluation.verification.guides import noised_clip
from model.evaluation.verification.tables import original_schedule, respacing
from model.evaluation.verification.tolerance import Half
from model.params import GuideName, SamplerName, Thresholding
from model.sampling.guidance import guide, guided_rows
from model.sampling.guides import ClipGuide, Guide
from model.sampling.plan import SamplingPlan, build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory

_SAMPLERS = {"ddpm": SamplerName.DDPM, "ddim": SamplerName.DDIM}
_INPUTS = (
    "x_T",
    "noise",
    "kept_steps",
    "tokens",
    "mask",
    "low_res",
    "inpaint_image",
    "inpaint_mask",
    "text_tokens",
    "text_len",
)
_BARELY = 5e-324
"""A guidance scale of 0 that still costs two rows: the step's own 0 asks for the unconditional
row alone, whose variance is not the one that the original goes on with."""


class _Watched:
    """A denoiser that keeps its first answer."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.first: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        output: Tensor = self._network(x_t, t, conditioning)
        self.first = output if self.first is None else self.first
        return output


class _Run:
    """A file's run: its trajectories and what leads them."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        meta = golden.meta
        timesteps = meta["options"]["diffusion_steps"]
        schedule = original_schedule(meta["noise_schedule"], timesteps)
        self.parameterization = Parameterization("epsilon", "learned_range", schedule)
        network = glide_network(golden, golden.setting.dtype)
        self.denoiser = _Watched(network)
        self.plan = _plan(golden, self.parameterization)
        self.conditioning = read_conditioning(golden, network)
        self.guides: dict[GuideName, Guide] = {}
        self.guide_scales: dict[GuideName, float] = {}
        self.captions: Tensor | None = None
        if meta.get("clip"):
            self._guide_by_clip()
        self.rows = self._trajectories()

    def _guide_by_clip(self) -> None:
        golden, meta = self.golden, self.golden.meta
        clip = noised_clip(golden, meta["clip"])
        tokens, lengths = golden.tensor("text_tokens").long(), golden.tensor("text_len").long()
        self.captions = clip.encode_text(tokens, lengths)
        self.guides = {GuideName.CLIP: ClipGuide(clip)}
        holder = meta["clip"] if "grad_scale" in meta["clip"] else meta
        self.guide_scales = {GuideName.CLIP: holder["grad_scale"]}

    def _trajectories(self) -> list[Trajectory]:
        golden, scale = self.golden, self.golden.meta["cfg_scale"]
        start = golden.tensor("x_T")
        count = len(start) if scale is None else len(start) // 2
        clipped = golden.meta.get("clip_denoised", True)
        return [
            Trajectory(
                plan=self.plan,
                x=start[row],
                conditioning=self._row(row),
                unconditional=None if scale is None else self._row(count + row),
                guidance_scale=1.0 if scale is None else scale or _BARELY,
                guide_scales=self.guide_scales,
                thresholding=Thresholding.STATIC if clipped else Thresholding.NONE,
                seed=row,
                noise=self._noise,
            )
            for row in range(count)
        ]

    def _noise(self, seed: int, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self.golden.array("noise"))[step, seed]

    def _row(self, row: int) -> Conditioning:
        """One row's part of what all are conditioned on; pictures may be stored once for a pair."""
        whole = self.conditioning
        members = {name: getattr(whole, name) for name in Conditioning.__slots__}
        members["clip_text"] = self.captions
        return Conditioning(
            **{
                name: None if member is None else member[row % len(member)]
                for name, member in members.items()
            }
        )

    def step(self) -> None:
        """Moves all rows on."""
        denoise_step(self.denoiser, self.rows, self.parameterization, self.guides)

    def first_output(self) -> Tensor:
        """(B, 2 C, H, W) of the first call, after classifier-free guidance."""
        assert self.denoiser.first is not None
        layout = guided_rows(
            [each.conditioning for each in self.rows],
            [each.unconditional for each in self.rows],
            [each.guidance_scale for each in self.rows],
        )
        return guide(self.denoiser.first, layout, self.rows[0].x.shape[0])


def _plan(golden: Golden, parameterization: Parameterization) -> SamplingPlan:
    meta, schedule = golden.meta, parameterization.schedule
    name = meta["sampler"]
    if name not in _SAMPLERS:
        raise GoldenFileError(f"no sampler of these files is called {name!r}")
    spacing = respacing(meta["timestep_respacing"], schedule.timesteps)
    eta = meta["eta"] if name == "ddim" else 0.0
    return build_plan(_SAMPLERS[name], schedule, spacing, eta=eta, variance="learned_range")


def check_trajectory(golden: Golden) -> None:
    """`traj_*`: the steps that the file kept, and the end."""
    golden.accept(_INPUTS)
    run = _Run(golden)
    golden.check("timestep_map", run.plan.timesteps[::-1])
    samples, images = [], []
    while not run.rows[0].done:
        run.step()
        samples.append(torch.stack([row.x for row in run.rows]))
        images.append(torch.stack([row.x0 for row in run.rows if row.x0 is not None]))
    golden.check("model_out_first", run.first_output, half=Half.GUIDED_OUTPUT)
    for name, found in (("samples", samples), ("pred_xstart", images)):
        if golden.has(name):
            kept = golden.array("kept_steps").tolist()
            golden.check(name, torch.stack([found[step] for step in kept]), half=Half.RUN)
    golden.check("final", samples[-1], half=Half.RUN)
