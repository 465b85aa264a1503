"""Tables that fit their terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from eval.commands.evaluate import evaluate
from eval.commands.narrow import narrowed
from tests.eval.recorded import data_set


def shown(width: int) -> list[str]:
    table = Table("arm", "accuracy", "95 %", "dollars", "95 % ", "frontier", title="A table")
    table.add_row("sums-expert", "85.0%", "80.1%-89.9%", "0.123", "0.101-0.155", "hull")
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(narrowed(table, console))
    return out.getvalue().splitlines()


def test_wide_terminals_get_all() -> None:
    lines = shown(90)
    [row] = [line for line in lines if "sums-expert" in line]
    assert "85.0%" in row
    assert "0.101-0.155" in row
    assert not any("No room" in line for line in lines)


@pytest.mark.parametrize("width", [30, 40, 50])
def test_narrow_ones_get_fewer_columns_and_whole_words(width: int) -> None:
    lines = shown(width)
    assert max(map(len, lines)) <= width
    [row] = [line for line in lines if "sums-expert" in line]
    assert "85.0%" in row
    assert "%-" not in row  # intervals went first
    said = " ".join(" ".join(lines).split())
    assert "No room for:" in said
    assert "95 %" in said


def test_the_command_on_a_narrow_terminal(tmp_path: Path) -> None:
    app = typer.Typer()
    app.add_typer(evaluate)
    arguments = ["eval", "cost-of-pass", "--data", str(data_set(tmp_path, 40))]
    lines = CliRunner().invoke(app, arguments, env={"COLUMNS": "40"}).stdout.splitlines()
    cells = [c.strip(" ┃│") for line in lines for c in line.split("│")]
    assert {"sums-expert", "words-expert"} <= set(cells)
    assert any(line.startswith("No room for: ") for line in lines)
