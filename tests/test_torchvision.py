"""A torchvision built for CUDA imports beside a CPU-only torch, once negclip_core has been imported."""

import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_torchvision_imports_after_negclip_core() -> None:
    done = run(
        "import negclip_core, torchvision; from torchvision.transforms import v2; print(torchvision.__version__)"
    )
    assert done.returncode == 0, done.stderr


def test_the_hook_is_installed_once_and_leaves_other_modules_alone() -> None:
    done = run(
        "import sys\n"
        "from negclip_core import torchvision_cpu as t\n"
        "t.install(); t.install()\n"
        "assert sum(isinstance(f, t._Finder) for f in sys.meta_path) == 1\n"
        "assert t._Finder().find_spec('torchvision', None) is None\n"
    )
    assert done.returncode == 0, done.stderr
