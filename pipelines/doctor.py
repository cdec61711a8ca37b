"""`negclip doctor`: what this machine has, and which features that turns on."""

import os
import platform
from importlib.util import find_spec
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
    ("masks refined by SAM", "segment_anything", "pip install segment-anything"),
)


def run() -> dict[str, Any]:
    """Versions, devices, shipped models and features."""
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    features = {name: {"on": find_spec(package) is not None, "how": how} for name, package, how in _EXTRAS}
    features["drawing and training on a GPU"] = {
        "on": bool(cuda),
        "how": "a CUDA device and a CUDA build of torch",
    }
    return {
        "versions": provenance(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "cuda": cuda,
        "models": {name: _present(name) for name in shipped()},
        "features": features,
    }


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
    lines = [
        versions,
        f"{result['machine']}, {result['cpus']} CPUs, CUDA: {', '.join(result['cuda']) or 'none'}",
        "",
    ]
    lines += [f"{'yes' if there else 'no ':<4} model {name}" for name, there in result["models"].items()]
    for name, feature in result["features"].items():
        lines.append(f"yes  {name}" if feature["on"] else f"no   {name}: {feature['how']}")
    return lines
