"""Golden files without a network, in configurations that the shipped ones lack."""

import numpy as np
import torch
from torch import Tensor

from tests.model.evaluation import plain_diffusion as pd
from tests.model.evaluation import plain_networks as pn
from tests.model.evaluation.own_networks import Made, Stored
from tests.model.evaluation.plain_networks import draw_input as rnd


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


def schedules() -> Made:
    named = [("linear", 37), ("squaredcos_cap_v2", 250), ("linear", 4000)]
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
