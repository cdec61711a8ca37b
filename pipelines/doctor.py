"""`negclip doctor`: what this machine has, and which features that turns on."""

import os
import platform
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.files import provenance
from negclip_core.models import resolve, shipped

__all__ = ["run", "table"]

# (feature, package that it needs, how to get it)
_EXTRAS = (
    ("memory-efficient attention (xformers)", "xformers", "pip install 'negclip[xformers]', with CUDA"),
    ("the page to play on", "gradio", "pip install 'negclip[ui]'"),
    ("audit of a corpus (Polars)", "polars", "pip install 'negclip[scale]'"),
    ("caption synthesis on a cluster (Ray Data)", "ray", "pip install 'negclip[scale]'"),
    ("low-rank updates of a host (--lora)", "peft", "pip install 'negclip[lora]'"),
    ("masks refined by SAM", "segment_anything", "pip install segment-anything"),
)
# Settings that change what a command does; a token or a key is never shown.
_SETTINGS = ("CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
             "PYTHONPATH", "PYTORCH_CUDA_ALLOC_CONF")  # fmt: skip


def run() -> dict[str, Any]:
    """Versions, devices, settings, shipped models and features: what a report of a fault needs."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    features = {name: {"on": find_spec(package) is not None, "how": how} for name, package, how in _EXTRAS}
    features["drawing and training on a GPU"] = {
        "on": bool(cuda),
        "how": "a CUDA device and a CUDA build of torch",
    }
    return {
        "versions": provenance(),
        "revision": _revision(),
        "machine": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": _memory(),
        "cuda": cuda,
        "cuda_memory_gib": [_gib(torch.cuda.mem_get_info(i)[1]) for i in range(len(cuda))],
        "cuda_build": torch.version.cuda,
        "hub_cache": HF_HUB_CACHE,
        "hub_cache_free_gib": _free(Path(HF_HUB_CACHE)),
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "models": {name: _present(name) for name in shipped()},
        "features": features,
    }


def _gib(count: int) -> float:
    return round(count / 2**30, 1)


def _memory() -> float | None:
    """Of the machine, in GiB; None where the system does not say."""
    try:
        return _gib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def _free(folder: Path) -> float:
    """Room on the disk that the folder is, or will be, on, in GiB."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return _gib(shutil.disk_usage(existing).free)


def _revision() -> str | None:
    """The commit of a clone that negclip runs from; None where it is not one."""
    home = Path(__file__).parent.parent
    if not (home / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(home), "describe", "--always", "--dirty"], capture_output=True,
                              text=True, check=True, timeout=10)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _present(name: str) -> bool:
    try:
        resolve(name)
    except RequestError:
        return False
    return True


def table(result: dict[str, Any]) -> list[str]:
    """The result in lines for a person."""
    versions = ", ".join(
        f"{name} {version}" for name, version in result["versions"].items() if name != "platform"
    )
    pairs = zip(result["cuda"], result["cuda_memory_gib"], strict=True)
    gpus = ", ".join(f"{name} ({memory:g} GiB)" for name, memory in pairs) or "none"
    build = f"torch for CUDA {result['cuda_build']}" if result["cuda_build"] else "torch for CPUs"
    memory = f", {result['memory_gib']:g} GiB" if result["memory_gib"] else ""
    lines = [
        versions + (f", revision {result['revision']}" if result["revision"] else ""),
        f"{result['machine']}, {result['cpus']} CPUs{memory}, CUDA: {gpus}, {build}",
        f"models of the hub: {result['hub_cache']} ({result['hub_cache_free_gib']:g} GiB free)",
        *(f"{name}={value}" for name, value in result["settings"].items()),
        "",
    ]
    lines += [f"{'yes' if there else 'no ':<4} model {name}" for name, there in result["models"].items()]
    for name, feature in result["features"].items():
        lines.append(f"yes  {name}" if feature["on"] else f"no   {name}: {feature['how']}")
    return lines
