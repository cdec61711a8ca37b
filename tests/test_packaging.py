"""What is installed, and what `import negclip_core` promises."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("negclip_core", "integrations", "eval", "pipelines")


def test_the_console_script_is_the_command_line() -> None:
    (script,) = [e for e in entry_points(group="console_scripts") if e.name == "negclip"]
    assert script.value == "pipelines.cli:main"


def test_exports_are_what_all_says() -> None:
    import negclip_core

    for name in negclip_core.__all__:
        assert getattr(negclip_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        negclip_core.nonesuch  # noqa: B018


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, negclip_core; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_constraints_are_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or ("==" in line and "://" not in line and "@" not in line), line


def test_ci_runs_the_tests() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "make test" in text and "set -euo pipefail" in text


def test_the_version_is_the_same_everywhere() -> None:
    own = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert own
    assert f"version: {own[1]}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"## {own[1]}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_extra_that_a_line_names_can_be_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    table = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = ", table, re.M))
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {
        extra
        for path in (*sources, *pages)
        for extra in re.findall(r"negclip\[(\w+)\]", path.read_text("utf-8"))
    }
    assert "lora" in named and named <= extras, named - extras
