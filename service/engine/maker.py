"""What this process draws with, as the images that it makes say it."""

import platform

import torch

from service.imagefile.provenance import Maker
from service.version import service_version


def maker_of(device: str, dtype: str) -> Maker:
    """The facts that decide how numbers are rounded here.

    Args:
        device: a torch device such as `cpu` or `cuda:0`.
        dtype: of the networks' bodies.
    """
    kind = device.partition(":")[0]
    return Maker(
        service_version=service_version(),
        torch_version=torch.__version__,
        dtype=dtype,
        device=kind,
        device_name=torch.cuda.get_device_name(device) if kind == "cuda" else _processor(),
    )


def _processor() -> str:
    """The kind of CPU and the vector instructions that torch chose its kernels by."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
