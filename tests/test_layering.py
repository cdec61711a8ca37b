"""Imports point one way: negclip_core <- integrations <- eval <- pipelines."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("negclip_core", "integrations", "eval", "pipelines")
FILES = [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    later = ORDER[ORDER.index(own) + 1 :]
    names = imported(ast.parse(path.read_text("utf-8")))
    wrong = {name for name in names if name.split(".")[0] in later}
    assert not wrong, f"{own} must not import {', '.join(sorted(wrong))}"
    # `import eval` would hide the builtin.
    assert "eval" not in {n for n in names if "." not in n} or _from_only(path)


def _from_only(path: Path) -> bool:
    tree = ast.parse(path.read_text("utf-8"))
    return not any(
        alias.name.split(".")[0] == "eval"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is long"


def test_every_package_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in ORDER)
