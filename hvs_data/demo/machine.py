"""On what a run was made: machine and versions."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

import hvs_data as hvs
from hvs_data.threads.share import usable_cpus


def machine_facts() -> dict[str, str]:
    """Names and values for people."""
    return {
        "Processor": processor_name(),
        "Cores": f"{len(usable_cpus())} for this process, {torch.get_num_threads()} used by PyTorch",
        "System": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "hvs_data": hvs.__version__,
        **{name: version_of(package) for name, package in (("PyTorch", "torch"), ("Numba", "numba"), ("simplejpeg", "simplejpeg"))},
    }


def processor_name() -> str:
    """The model name that the kernel reports; else the architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.machine()


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
