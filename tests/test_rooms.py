"""The architecture holds: imports go one way, and importing costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "skills": set(),
    "experts": set(),
    "routers": {"skills", "experts"},
    "orchestrator": {"skills", "experts", "routers"},
    "eval": {"skills", "experts", "routers", "orchestrator"},
}
ROUTERS_MAY_IMPORT = {"experts.cards", "experts.values", "experts.errors", "experts.equality"}
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for room in MAY_IMPORT
    for path in sorted((ROOT / room).rglob("*.py"))
]


MADE_OF_TORCH = (
    "experts.latent.net", "experts.latent.training", "experts.scoring.pooling",
    "experts.scoring.scorer", "experts.scoring.training", "eval.latent", "eval.benchmarks.latent",
)  # fmt: skip
"""Whose classes are nets: nothing else imports them but inside of functions."""


def imported(path: Path) -> set[str]:
    """Modules that a file imports, also inside of functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        above = {n for n in imported(path) if n.split(".")[0] in set(MAY_IMPORT) - {room}}
        wrong = {n for n in above if n.split(".")[0] not in MAY_IMPORT[room]}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_routers_see_values_and_cards_of_experts_only() -> None:
    for path in (ROOT / "routers").rglob("*.py"):
        of_experts = {n for n in imported(path) if n.split(".")[0] == "experts"}
        assert of_experts <= ROUTERS_MAY_IMPORT, path.name


def test_strategies_do_no_io() -> None:
    for path in (ROOT / "orchestrator" / "strategies").glob("*.py"):
        banned = {"asyncio", "time", "random", "httpx", "sqlite3", "pathlib", "os"}
        assert not banned & imported(path), path.name
        assert "await" not in path.read_text(encoding="utf-8"), path.name


def test_importing_everything_brings_no_heavy_library() -> None:
    light = [m for m in MODULES if not m.startswith(MADE_OF_TORCH)]
    code = (
        f"import importlib, sys; [importlib.import_module(m) for m in {light!r}]; "
        "print(sorted({'torch', 'transformers', 'sklearn', 'sentence_transformers', 'scipy', "
        "'mcp', 'mcp_types', 'jsonschema', 'sympy', 'pint'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    path = ROOT / Path(*module.split("."))
    package = path / "__init__.py"  # a folder of data may be named like the module that reads it
    path = package if package.exists() else path.with_suffix(".py")
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), module
