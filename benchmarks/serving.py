"""Eight different jobs together against the same eight one after another, through the engine.

    python -m benchmarks.serving

Both ways alternate, so that a change of the machine's pace meets both. Writes
`benchmarks/results/serving.json` with every time, the ratios of the pairs and the rows a step.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, commit
from model.catalog import load_catalog
from model.params import SamplerName, SamplingParams
from service.engine.engine import Engine
from service.engine.runner import ModelRunner, pick_device


def jobs(model: str) -> list[SamplingParams]:
    """Eight requests that differ in sampler, steps, guidance and size."""
    ddpm, ddim, dpm = SamplerName.DDPM, SamplerName.DDIM, SamplerName.DPMPP_2M
    settings: list[tuple[SamplerName, int | str, float, int]] = [
        (dpm, 20, 3.0, 256),
        (ddim, 25, 1.0, 256),
        (ddpm, 30, 4.0, 64),
        (dpm, 10, 2.0, 64),
        (ddim, "10,10", 5.0, 256),
        (ddpm, 20, 0.0, 64),
        (dpm, 15, 7.5, 256),
        (ddim, 12, 1.5, 64),
    ]
    return [
        SamplingParams(
            prompt="a cat to the left of an apple on the grass",
            model=model,
            seed=number,
            sampler=sampler,
            steps=steps,
            guidance_scale=scale,
            width=size,
            height=size,
        )
        for number, (sampler, steps, scale, size) in enumerate(settings)
    ]


def run(engine: Engine, requests: list[SamplingParams]) -> tuple[float, list[int]]:
    """Seconds until all are finished, and the rows of every network call."""
    started = time.perf_counter()
    for number, params in enumerate(requests):
        engine.add(str(number), params)
    rows = []
    while engine.trajectories:
        output = engine.step()
        for _, error in output.failed:
            raise error
        rows.append(output.rows)
    return time.perf_counter() - started, rows


def measure(model: str, folder: Path | None, pairs: int, device: str) -> dict[str, Any]:
    """Times both ways in turn."""
    spec = load_catalog([folder] if folder else [])[model]
    engine = Engine(ModelRunner.load([spec], device, "float32"), max_batch=8)
    requests = jobs(model)
    run(engine, requests[:1])  # the first calls choose kernels
    together: list[float] = []
    alone: list[float] = []
    rows: list[int] = []
    for _ in range(pairs):
        seconds, rows = run(engine, requests)
        together.append(seconds)
        alone.append(sum(run(engine, [params])[0] for params in requests))
    ratios = [slow / fast for slow, fast in zip(alone, together, strict=True)]
    place = pick_device(device)
    hardware = torch.cuda.get_device_name(place) if place.type == "cuda" else cpu()
    return {
        "command": f"python -m benchmarks.serving --pairs {pairs} --device {device}",
        "commit": commit(),
        "hardware": hardware,
        "torch": torch.__version__,
        "model": model,
        "together_s": together,
        "one_after_another_s": alone,
        "median_speedup": statistics.median(ratios),
        "speedups": ratios,
        "calls_together": len(rows),
        "mean_rows_per_call": statistics.mean(rows),
        "most_rows_per_call": max(rows),
    }


def cpu() -> str:
    """This machine's processor, as torch uses it."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{torch.get_num_threads()} threads of {platform.machine()}, {capability}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--pipeline", type=Path, help="a pipeline folder; default: the shipped one")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "serving.json")
    options = parser.parse_args()
    record = measure(options.model, options.pipeline, options.pairs, options.device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
