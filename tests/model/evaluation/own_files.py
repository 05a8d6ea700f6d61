"""Golden files of configurations that the shipped ones lack, computed by the plain mathematics."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tests.model.evaluation import own_networks as nets
from tests.model.evaluation import own_numbers as numbers
from tests.model.evaluation.own_networks import Made

_INPAINT = {"inpaint": True, "super_res": True}
_CLIP_RUN = {"clip": {**nets.CLIP, "grad_scale": 0.02}, "cfg_scale": None}

FILES: dict[str, Callable[[], Made]] = {
    "unet_old_style": nets.unet_old_style,
    "unet_plain_text": nets.unet_plain_text,
    "unet_half_known": nets.unet_half_known,
    "adm_unet_old_style": nets.adm_old_style,
    "adm_superres_classes": nets.adm_superres,
    "adm_classifier_adaptive": lambda: nets.adm_classifier("adaptive"),
    "adm_classifier_spatial": lambda: nets.adm_classifier("spatial"),
    "adm_classifier_spatial_v2": lambda: nets.adm_classifier("spatial_v2"),
    "adm_classifier_attention_16": lambda: nets.adm_classifier("attention"),
    "clip_own": nets.clip,
    "steps_own": numbers.steps,
    "losses_own": numbers.losses,
    "traj_inpaint_alone": lambda: nets.trajectory("ddpm", _INPAINT, {"cfg_scale": None}),
    "traj_inpaint_ddim": lambda: nets.trajectory("ddim", _INPAINT, {"cfg_scale": 2.0, "eta": 0.5}),
    "traj_scale_0": lambda: nets.trajectory("ddpm", {}, {"cfg_scale": 0.0}),
    "traj_free": lambda: nets.trajectory(
        "ddim", {"xf_width": 0}, {"cfg_scale": None, "eta": 0.0, "clip_denoised": False}
    ),
    "traj_clip": lambda: nets.trajectory("ddpm", {}, _CLIP_RUN),
    "traj_clip_ddim": lambda: nets.trajectory(
        "ddim", {}, {"clip": nets.CLIP, "grad_scale": 0.02, "cfg_scale": 1.5, "eta": 1.0}
    ),
    "train_grads_own": nets.train_gradients,
    "schedules_own": numbers.schedules,
    "respacing_own": numbers.respacing,
    "schedules_deprecated_own": numbers.schedules_deprecated,
    "timestep_embedding_own": numbers.timestep_embedding,
    "ema_own": numbers.ema,
    "resampler_own": numbers.resampler,
    "metrics_own": numbers.metrics,
}


# What the plain mathematics in float64 is away from any float32: x̂₀ of the noisiest step is divided
# by a small √ᾱ, and the pixels' likelihood is a difference of two nearly equal numbers.
TOLERANCES: dict[str, dict[str, float]] = {
    name: {"samples": 1e-3, "pred_xstart": 1e-3, "final": 1e-3}
    for name in FILES
    if name.startswith("traj_")
} | {
    "losses_own": {
        f"RESCALED_KL.LEARNED.{mean}/grad_model_output": 2e-3 for mean in ("PREVIOUS_X", "START_X")
    }
}


def write_tolerances(folder: Path) -> None:
    files = {
        f"{name}.npz": {array: {"suggest_atol": limit} for array, limit in entries.items()}
        for name, entries in TOLERANCES.items()
    }
    (folder / "tolerances.json").write_text(json.dumps({"files": files}))


def write(folder: Path, name: str, made: Made | None = None) -> Path:
    """Writes one file of `FILES`, or the arrays and metadata given, as float32 and float64."""
    arrays, meta = FILES[name]() if made is None else made
    exact = name.startswith(("schedules", "respacing", "resampler", "metrics"))
    stored = {key: _stored(value, exact) for key, value in arrays.items()}
    path = folder / f"{name}.npz"
    np.savez(path, meta_json=np.array(json.dumps(meta)), **stored)
    return path


def _stored(value: Any, exact: bool) -> Any:
    array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 and not exact else array
