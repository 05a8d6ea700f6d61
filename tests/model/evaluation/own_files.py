"""Golden files of configurations that the shipped ones lack, computed by the plain mathematics."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.model.evaluation import plain_diffusion as pd
from tests.model.evaluation import plain_networks as pn

Stored = dict[str, Any]
Made = tuple[Stored, Stored]

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


def rnd(name: str, *shape: int) -> Tensor:
    return pn.draw(f"input/{name}", *shape)


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


def steps() -> Made:
    """A short linear process, pictures of two channels."""
    process = pd.Process("linear", 400, "5,4,3")
    shape = (3, 2, 4, 6)
    x_0, noise, z = rnd("s/x0", *shape).clamp(-1, 1), rnd("s/n", *shape), rnd("s/z", *shape)
    output, grad = rnd("s/o", 3, 4, 4, 6), rnd("s/g", *shape)
    mask, known = rnd("s/m", 3, 1, 4, 6).clamp(0, 1), rnd("s/k", *shape)
    t = torch.tensor([0, 7, 11])
    x_t = process.diffused(x_0, noise, t).float()
    heard = torch.tensor(process.kept)[t]
    wide, said = x_t.double(), output.double()
    pull = grad * (1 + heard / 400)[:, None, None, None].double() - 0.1 * wide

    def known_in(x: Tensor) -> Tensor:
        return x * (1 - mask) + known * mask

    full = [process.at(table, t).expand(shape) for table in (process.ab, process.variance)]
    clipped, free = (pd.read(process, said, wide, t, clip=clip) for clip in (True, False))
    edited = pd.read(process, said, wide, t, denoised=known_in)
    loose = pd.read(process, said, wide, t, denoised=known_in, clip=False)
    moved = pd.led(process, clipped.x_0, wide, t, pull)
    arrays = {"x0": x_0, "noise": noise, "t": t, "model_output": output, "z": z, "grad_G": grad}
    arrays |= {"inpaint_mask": mask, "inpaint_known": known, "x_t": x_t}
    arrays |= {
        "q_mean": full[0].sqrt() * x_0,
        "q_variance": 1 - full[0],
        "q_log_variance": (1 - full[0]).log(),
        "post_mean": process.posterior_mean(x_0.double(), wide, t),
        "post_variance": full[1],
        "post_log_variance": process.at(process.log_variance, t).expand(shape),
        "model_t": heard,
        "cond_t": heard,
    }
    for name, reading in (("pmv_clip1", clipped), ("pmv_clip0", free)):
        arrays |= {
            f"{name}/mean": reading.mean,
            f"{name}/variance": reading.log_variance.exp(),
            f"{name}/log_variance": reading.log_variance,
            f"{name}/pred_xstart": reading.x_0,
        }
    samples = {
        "p_sample": (pd.ancestral(clipped, t, z), clipped.x_0),
        "p_sample_noclip": (pd.ancestral(free, t, z), free.x_0),
        "p_sample_guided": (pd.ancestral(clipped, t, z, pull), clipped.x_0),
        "p_sample_inpaint": (pd.ancestral(edited, t, z), edited.x_0),
        "ddim_eta0.0": (pd.implicit(process, clipped.x_0, wide, t, z, 0.0), clipped.x_0),
        "ddim_eta0.7": (pd.implicit(process, clipped.x_0, wide, t, z, 0.7), clipped.x_0),
        "ddim_guided": (pd.implicit(process, moved, wide, t, z, 0.0), moved),
        "ddim_inpaint_noclip": (pd.implicit(process, loose.x_0, wide, t, z, 0.7), loose.x_0),
        "ddim_reverse": (pd.encoded(process, clipped.x_0, wide, t), clipped.x_0),
    }
    for name, (sample, image) in samples.items():
        arrays |= {f"{name}/sample": sample, f"{name}/pred_xstart": image}
    meta = {"T": 400, "noise_schedule": "linear", "timestep_respacing": "5,4,3", "etas": [0.0, 0.7]}
    return arrays, meta


def losses() -> Made:
    """Every loss, variance and mean of the originals over a respaced process."""
    process = pd.Process("squaredcos_cap_v2", 1000, "40")
    shape = (4, 3, 5, 5)
    x_0, noise = rnd("l/x0", *shape).clamp(-1, 1), rnd("l/n", *shape)
    output, t = 0.5 * rnd("l/o", 4, 6, 5, 5), torch.tensor([0, 1, 20, 39])
    arrays: Stored = {"x0": x_0, "noise": noise, "t": t, "model_output": output}
    cases = {}
    for kind in ("MSE", "RESCALED_MSE", "KL", "RESCALED_KL"):
        for variance in ("LEARNED", "FIXED_SMALL", "FIXED_LARGE", "LEARNED_RANGE"):
            for mean in ("PREVIOUS_X", "START_X", "EPSILON"):
                case, leaf = f"{kind}.{variance}.{mean}", output.double().requires_grad_()
                used = leaf if variance.startswith("LEARNED") else leaf[:, :3]
                terms = pd.objective(process, case, used, x_0, noise, t)
                cases[case] = list(terms)
                arrays |= {f"{case}/{name}": term for name, term in terms.items()}
                (gradient,) = torch.autograd.grad(terms["loss"].mean(), leaf)
                arrays[f"{case}/grad_model_output"] = gradient[:, : used.shape[1]]
    x_t = process.diffused(x_0, noise, t)
    for name, clip in (("vb_clip", True), ("vb_noclip", False)):
        reading = pd.read(process, output.double(), x_t, t, clip=clip)
        arrays[name] = pd.bound(process, reading, x_0.double(), x_t, t)
    last = torch.tensor(process.ab[-1])
    zero = torch.zeros(())
    prior = pd.divergence(last.sqrt() * x_0.double(), (1 - last).log(), zero, zero)
    arrays["prior_bpd"] = pd.mean_of(prior) / np.log(2)
    spacing = {"noise_schedule": "squaredcos_cap_v2", "timestep_respacing": "40"}
    return arrays, {"T": 1000, "cases": cases} | spacing


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
            return x_0 * (1 - mask) + image * mask

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
        return gradient * scale

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
    terms["loss"].mean().backward()
    names = list(w.tensors)
    gradients = {name: each.grad for name, each in w.tensors.items() if each.grad is not None}
    rows = torch.tensor([0, 31, 62, 5])
    arrays = {"x0": x_0, "noise": noise, "t": t, **given, **terms}
    arrays |= {
        "grad_names": np.array(names),
        "grad_norms": np.array([float(gradients[name].norm()) for name in names]),
        "grad/out.2.weight": gradients["out.2.weight"],
        "grad/middle_block.1.encoder_kv.weight": gradients["middle_block.1.encoder_kv.weight"],
        "token_embedding_rows": rows,
        "grad/token_embedding_rows": gradients["token_embedding.weight"][rows],
    }
    return arrays, {"options": o}


def schedules() -> Made:
    named = [["linear", 37], ["squaredcos_cap_v2", 250], ["linear", 4000]]
    arrays: Stored = {}
    for name, timesteps in named:
        tables = pd.Process(name, timesteps).tables()
        arrays |= {f"{name}_{timesteps}/{table}": values for table, values in tables.items()}
    return arrays, {"schedules": named}


def respacing() -> Made:
    cases = ["linear_100_", "squaredcos_cap_v2_999_7,1,2", "linear_250_ddim25"]
    cases += ["squaredcos_cap_v2_500_fast27", "linear_4000_333"]
    arrays: Stored = {}
    for case in cases:
        name, timesteps, spec = case.rsplit("_", 2)
        process = pd.Process(name, int(timesteps), spec)
        arrays[f"{case}/timestep_map"] = np.array(process.kept)
        arrays |= {f"{case}/{table}": values for table, values in process.tables().items()}
    return arrays, {"cases": cases}


def schedules_deprecated() -> Made:
    t, first, last = 77, 0.001, 0.03
    arrays = {
        "quad": np.linspace(first**0.5, last**0.5, t) ** 2,
        "linear": np.linspace(first, last, t),
        "const": np.full(t, last),
        "jsd": np.array([1 / (t - i) for i in range(t)]),
    }
    for percent in (10, 50):
        rising = int(t * percent / 100)
        arrays[f"warmup{percent}"] = np.full(t, last)
        arrays[f"warmup{percent}"][:rising] = np.linspace(first, last, rising)
    return arrays, {"T": t, "beta_start": first, "beta_end": last}


def timestep_embedding() -> Made:
    t = torch.tensor([0.0, 0.5, 333.25, 999.0])
    arrays = {"t": t} | {f"emb{width}": pn.sinusoids(t, width) for width in (7, 64)}
    return arrays, {"dims": [7, 64]}


def ema() -> Made:
    first, sources = rnd("e/i", 2, 3), rnd("e/s", 4, 2, 3)
    history = [first.double()]
    for source in sources:
        history.append(0.97 * history[-1] + 0.03 * source.double())
    return {"init": first, "sources": sources, "ema": torch.stack(history)}, {"rate": 0.97}


def resampler() -> Made:
    generator = np.random.default_rng(5)
    ts, values = generator.integers(0, 4, (30, 3)), generator.random((30, 3))
    losses: list[list[float]] = [[] for _ in range(4)]
    weights, importance = [], []
    for row, found in zip(ts, values, strict=True):
        for t, loss in zip(row, found, strict=True):
            losses[t].append(float(loss))
        now = np.ones(4)
        if all(len(each) >= 2 for each in losses):
            now = np.array([np.sqrt(np.mean(np.square(each[-2:]))) for each in losses])
            now = now / now.sum() * (1 - 0.1) + 0.1 / 4
        weights.append(now)
        importance.append(1 / (4 * now / now.sum()))
    arrays = {"ts": ts, "losses": values, "weights": weights, "importance": importance}
    return arrays, {"num_timesteps": 4, "history_per_term": 2, "uniform_prob": 0.1}


def metrics() -> Made:
    """Few points in a line of dimensions: all distances by hand."""
    generator = np.random.default_rng(3)
    ref, sample = generator.normal(size=(40, 5)), generator.normal(0.4, 1.2, size=(33, 5))
    arrays: Stored = {"ref": ref.astype(np.float32), "sample": sample.astype(np.float32)}
    ref, sample = arrays["ref"].astype(float), arrays["sample"].astype(float)
    fitted = {}
    for name, points in (("ref", ref), ("sample", sample)):
        centred = points - points.mean(0)
        fitted[name] = points.mean(0), centred.T @ centred / (len(points) - 1)
        apart = ((points[:, None] - points[None]) ** 2).sum(2)
        arrays[f"mu_{name}"], arrays[f"sigma_{name}"] = fitted[name]
        arrays[f"radii_{name}"] = np.sort(apart, 1)[:, 2:3].astype(np.float32)
    (mu_1, s_1), (mu_2, s_2) = fitted["sample"], fitted["ref"]
    root = np.sqrt(np.linalg.eigvals(s_1 @ s_2).astype(complex)).real.sum()
    arrays["fid"] = ((mu_1 - mu_2) ** 2).sum() + np.trace(s_1) + np.trace(s_2) - 2 * root
    apart = ((sample[:, None] - ref[None]) ** 2).sum(2)
    shares = [
        (apart <= arrays["radii_ref"].T).any(1).mean(),
        (apart <= arrays["radii_sample"]).any(0).mean(),
    ]
    arrays["precision_recall_f32"] = np.array(shares)
    arrays["softmax_W"] = generator.normal(size=(5, 6)).astype(np.float32)
    p = np.exp(sample @ arrays["softmax_W"].astype(float))
    p /= p.sum(1, keepdims=True)
    parts = [p[i : i + 10] for i in range(0, 33, 10)]
    scores = [np.exp((q * np.log(q / q.mean(0))).sum(1).mean()) for q in parts]
    arrays["inception_score_split10"] = np.array(np.mean(scores))
    return arrays, {"k": 2}


_INPAINT = {"inpaint": True, "super_res": True}
_CLIP_RUN = {"clip": {**CLIP, "grad_scale": 0.02}, "cfg_scale": None}

FILES: dict[str, Callable[[], Made]] = {
    "unet_old_style": unet_old_style,
    "unet_plain_text": unet_plain_text,
    "unet_half_known": unet_half_known,
    "adm_unet_old_style": adm_old_style,
    "adm_superres_classes": adm_superres,
    "adm_classifier_adaptive": lambda: adm_classifier("adaptive"),
    "adm_classifier_spatial": lambda: adm_classifier("spatial"),
    "adm_classifier_spatial_v2": lambda: adm_classifier("spatial_v2"),
    "adm_classifier_attention_16": lambda: adm_classifier("attention"),
    "clip_own": clip,
    "steps_own": steps,
    "losses_own": losses,
    "traj_inpaint_alone": lambda: trajectory("ddpm", _INPAINT, {"cfg_scale": None}),
    "traj_inpaint_ddim": lambda: trajectory("ddim", _INPAINT, {"cfg_scale": 2.0, "eta": 0.5}),
    "traj_scale_0": lambda: trajectory("ddpm", {}, {"cfg_scale": 0.0}),
    "traj_free": lambda: trajectory(
        "ddim", {"xf_width": 0}, {"cfg_scale": None, "eta": 0.0, "clip_denoised": False}
    ),
    "traj_clip": lambda: trajectory("ddpm", {}, _CLIP_RUN),
    "traj_clip_ddim": lambda: trajectory(
        "ddim", {}, {"clip": CLIP, "grad_scale": 0.02, "cfg_scale": 1.5, "eta": 1.0}
    ),
    "train_grads_own": train_gradients,
    "schedules_own": schedules,
    "respacing_own": respacing,
    "schedules_deprecated_own": schedules_deprecated,
    "timestep_embedding_own": timestep_embedding,
    "ema_own": ema,
    "resampler_own": resampler,
    "metrics_own": metrics,
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
