"""Golden files of networks and of runs in configurations that the shipped ones lack."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.model.evaluation import plain_diffusion as pd
from tests.model.evaluation import plain_networks as pn
from tests.model.evaluation.plain_networks import draw_input as rnd

Stored = dict[str, Any]
Made = tuple[Stored, Stored]
"""Arrays and metadata."""

OPTIONS: Stored = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "num_heads": 1,
    "num_head_channels": 16,
    "num_heads_upsample": -1,
    "attention_resolutions": "8",
    "dropout": 0.1,
    "text_ctx": 6,
    "xf_width": 32,
    "xf_layers": 1,
    "xf_heads": 2,
    "xf_final_ln": True,
    "xf_padding": True,
    "diffusion_steps": 1000,
    "noise_schedule": "squaredcos_cap_v2",
    "timestep_respacing": "",
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "use_fp16": False,
    "cache_text_emb": False,
    "inpaint": False,
    "super_res": False,
}
OLD_STYLE: Stored = OPTIONS | {
    "num_heads": 2,
    "num_head_channels": -1,
    "num_heads_upsample": 4,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
}
ADM: Stored = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
}
CLIP: Stored = {
    "text": {
        "max_text_len": 9,
        "n_bpe_vocab": 40,
        "n_embd": 12,
        "n_head": 2,
        "n_head_state": 8,
        "n_xf_blocks": 1,
    },
    "image": {
        "image_size": 16,
        "patch_size": 4,
        "n_timestep": 1000,
        "n_embd": 12,
        "n_head": 3,
        "n_head_state": 8,
        "n_xf_blocks": 2,
    },
}


def caption(rows: int, context: int = 6) -> Stored:
    mask = torch.arange(context)[None] < torch.arange(1, rows + 1)[:, None]
    return {"tokens": torch.arange(rows * context).reshape(rows, context) * 31, "mask": mask}


def unet_old_style() -> Made:
    """No text, convolutional resampling, heads by number; shortened, with a picture to draw."""
    o = OLD_STYLE | {"xf_width": 0}
    w, x, t = pn.Weights(), rnd("own/x", 2, 3, 16, 16), torch.tensor([3.0, 870.5])
    out = pn.glide(w, o, x, t)
    channels = out.transpose(0, 1).flatten(1)
    arrays = {
        "x_s4": x[:, :, ::4, ::4],
        "timesteps": t,
        "out_s4": out[:, :, ::4, ::4],
        "out_mean": channels.mean(1),
        "out_std": channels.std(1),
    }
    return arrays, {"options": o, "input_seed": "own", "num_params": w.count}


def unet_plain_text() -> Made:
    """No final norm, no padding embedding, no mask; not square."""
    o = OPTIONS | {"xf_final_ln": False, "xf_padding": False, "num_heads_upsample": 2}
    w, x, t = pn.Weights(), rnd("plain/x", 2, 3, 8, 24), torch.tensor([0, 999])
    tokens = caption(2)["tokens"]
    pooled, sequence = pn.read_caption(w, o, tokens, None)
    arrays = {
        "x": x,
        "timesteps": t,
        "tokens": tokens.int(),
        "time_emb_in": pn.sinusoids(t, 32),
        "xf_proj": pooled,
        "xf_out_head": sequence[:, :64],
        "out": pn.glide(w, o, x, t, tokens=tokens),
    }
    return arrays, {"options": o, "num_params": w.count}


def unet_half_known() -> Made:
    """Inpainting and super-resolution, with a mask that knows nothing of a picture."""
    o = OPTIONS | {"inpaint": True, "super_res": True}
    given = caption(2) | {
        "low_res": rnd("k/l", 2, 3, 5, 5),
        "inpaint_mask": rnd("k/m", 2, 1, 16, 16),
    }
    w, x, t = pn.Weights(), rnd("k/x", 2, 3, 16, 16), torch.tensor([10, 20])
    nothing = {name: each for name, each in given.items() if name != "inpaint_mask"}
    arrays = given | {
        "x": x,
        "timesteps": t,
        "out": pn.glide(w, o, x, t, **given),
        "out_no_inpaint_args": pn.glide(w, o, x, t, **nothing),
        "trace_names": np.array(["input_blocks.0"]),
    }
    return arrays, {"options": o}


def adm_old_style() -> Made:
    """Grey pictures, no learned variance, pooling without convolutions, fractional widths."""
    config = ADM | {
        "in_channels": 1,
        "out_channels": 1,
        "channel_mult": [1, 1.5, 2.01],
        "model_channels": 64,
        "num_heads": 4,
        "conv_resample": False,
        "num_classes": None,
        "attention_resolutions": [4],
        "use_new_attention_order": True,
    }
    w, x, t = pn.Weights(), rnd("adm/x", 1, 1, 16, 16), torch.tensor([417])
    return {"x": x, "timesteps": t, "out": pn.adm(w, config, x, t)}, {
        "config": config,
        "num_params": w.count,
    }


def adm_superres() -> Made:
    """ADM's upsampler with classes."""
    config = ADM | {"num_classes": 7, "num_head_channels": 16, "use_scale_shift_norm": True}
    w, x, t = pn.Weights(), rnd("sr/x", 2, 3, 16, 16), torch.tensor([1, 700])
    y, low_res = torch.tensor([0, 6]), rnd("sr/l", 2, 3, 4, 4)
    out = pn.adm(w, config, x, t, y, low_res)
    return {"x": x, "low_res": low_res, "timesteps": t, "y": y, "out": out}, {"config": config}


def adm_classifier(pool: str) -> Made:
    config = ADM | {"out_channels": 5, "pool": pool, "num_head_channels": 16, "num_classes": None}
    w, t, y = pn.Weights(), torch.tensor([5, 995]), torch.tensor([4, 1])
    x = rnd("c/x", 2, 3, 16, 16).requires_grad_()
    logits = pn.classifier(w, config, x, t)
    chosen = logits.log_softmax(1)[torch.arange(2), y]
    (gradient,) = torch.autograd.grad(chosen.sum(), x)
    arrays = {"x": x, "timesteps": t, "y": y, "logits": logits, "xent": -chosen}
    return arrays | {"cond_grad": 2.5 * gradient}, {"config": config, "classifier_scale": 2.5}


def clip() -> Made:
    tokens, lengths = torch.arange(18).reshape(2, 9) % 40, torch.tensor([4, 9])
    x, t = rnd("clip/x", 2, 3, 16, 16).requires_grad_(), torch.tensor([12, 900])
    text = pn.clip_text(pn.Weights(), CLIP["text"], tokens, lengths)
    image = pn.clip_image(pn.Weights(), CLIP["image"], x, t)
    alike = 100 * (pn.unit(text) * pn.unit(image)).sum(1)
    (gradient,) = torch.autograd.grad(alike.sum(), x)
    arrays = {"text_tokens": tokens.int(), "text_len": lengths.int(), "x": x, "timesteps": t}
    arrays |= {"text_features": text, "image_features": image, "sim_logits": alike}
    arrays |= {"text_emb": pn.unit(text), "image_emb": pn.unit(image)}
    return arrays | {"cond_grad": 1.5 * gradient}, {**CLIP, "grad_scale": 1.5}


def trajectory(sampler: str, changes: Stored, meta: Stored) -> Made:
    """A run of four steps with whatever its options and metadata ask for."""
    o = OPTIONS | {"diffusion_steps": 100, "noise_schedule": "linear"} | changes
    scale, eta = meta["cfg_scale"], meta.get("eta", 0.0)
    rows = 2
    count = rows if scale is None else rows // 2
    given: Stored = caption(rows) if o["xf_width"] else {}
    if o["super_res"]:
        given["low_res"] = rnd("t/l", rows, 3, 4, 4).clamp(-1, 1)
    if o["inpaint"]:
        given["inpaint_image"] = rnd("t/i", rows, 3, 16, 16).clamp(-1, 1)
        given["inpaint_mask"] = (rnd("t/m", rows, 1, 16, 16) > 0).float()
    process = pd.Process(o["noise_schedule"], 100, "4")
    start, noise = rnd("t/x", rows, 3, 16, 16), rnd("t/z", 4, count, 3, 16, 16)
    arrays = given | {"x_T": start, "noise": noise, "timestep_map": np.array(process.kept)}
    w, x = pn.Weights(), start[:count].double()
    pull_of = clip_pull(arrays, meta, count)
    outputs, samples, images = [], [], []
    for step in range(4):
        t = torch.full((count,), 3 - step)
        heard = torch.tensor(process.kept)[t]
        both = x if scale is None else torch.cat([x, x])
        out = pn.glide(w, o, both, heard.repeat(len(both) // count), **given)
        if scale is not None:
            c, u = out[:count], out[count:]
            out = torch.cat([u[:, :3] + scale * (c[:, :3] - u[:, :3]), c[:, 3:]], 1)

        def known_in(x_0: Tensor) -> Tensor:
            if not o["inpaint"]:
                return x_0
            mask, image = given["inpaint_mask"][:count], given["inpaint_image"][:count]
            edited: Tensor = x_0 * (1 - mask) + image * mask
            return edited

        clip = meta.get("clip_denoised", True)
        reading = pd.read(process, out, x, t, denoised=known_in, clip=clip)
        image = reading.x_0
        if sampler == "ddpm":
            x = pd.ancestral(reading, t, noise[step], pull_of(x, heard))
        else:
            image = pd.led(process, image, x, t, pull_of(x, heard))
            x = pd.implicit(process, image, x, t, noise[step], eta)
        outputs.append(out)
        samples.append(x)
        images.append(image)
    kept = [0, 3]
    arrays |= {
        "model_out_first": outputs[0],
        "kept_steps": np.array(kept),
        "samples": torch.stack([samples[k] for k in kept]),
        "pred_xstart": torch.stack([images[k] for k in kept]),
        "final": x,
    }
    base = {"options": o, "noise_schedule": o["noise_schedule"], "timestep_respacing": "4"}
    return arrays, base | {"sampler": sampler} | meta


def clip_pull(arrays: Stored, meta: Stored, count: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The gradient of a run's CLIP; adds the captions to the run's arrays."""
    if "clip" not in meta:
        return lambda x, t: torch.zeros_like(x)
    tokens, lengths = torch.arange(9 * count).reshape(count, 9) % 40, torch.tensor([5, 9])[:count]
    arrays |= {"text_tokens": tokens.int(), "text_len": lengths.int()}
    text, image = meta["clip"]["text"], meta["clip"]["image"]
    w = pn.Weights()
    z_text = pn.unit(pn.clip_text(pn.Weights(), text, tokens, lengths))

    def pull(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            alike = 100 * (z_text * pn.unit(pn.clip_image(w, image, x, t))).sum()
            (gradient,) = torch.autograd.grad(alike, x)
        scale = meta["grad_scale"] if "grad_scale" in meta else meta["clip"]["grad_scale"]
        led: Tensor = gradient * scale
        return led

    return pull


def train_gradients() -> Made:
    o = OPTIONS | {"timestep_respacing": "50", "noise_schedule": "linear"}
    process = pd.Process("linear", 1000, "50")
    x_0, noise = rnd("g/x0", 2, 3, 16, 16).clamp(-1, 1), rnd("g/n", 2, 3, 16, 16)
    t, given = torch.tensor([0, 33]), caption(2)
    w = pn.Weights(requires_grad=True)
    heard = torch.tensor(process.kept)[t]
    output = pn.glide(w, o, process.diffused(x_0, noise, t), heard, **given)
    case = "RESCALED_MSE.LEARNED_RANGE.EPSILON"
    terms = pd.objective(process, case, output, x_0, noise, t)
    terms["loss"].mean().backward()  # type: ignore[no-untyped-call]
    names = list(w.tensors)
    gradients = {name: each.grad for name, each in w.tensors.items() if each.grad is not None}
    rows = torch.tensor([0, 31, 62, 5])
    arrays: Stored = {"x0": x_0, "noise": noise, "t": t, **given, **terms}
    arrays |= {
        "grad_names": np.array(names),
        "grad_norms": np.array([float(gradients[name].norm()) for name in names]),
        "grad/out.2.weight": gradients["out.2.weight"],
        "grad/middle_block.1.encoder_kv.weight": gradients["middle_block.1.encoder_kv.weight"],
        "token_embedding_rows": rows,
        "grad/token_embedding_rows": gradients["token_embedding.weight"][rows],
    }
    return arrays, {"options": o}
