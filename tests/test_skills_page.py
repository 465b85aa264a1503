"""docs/skills.md, typed as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from eval.commands import skills
from orchestrator.config import load_config
from skills.taxonomy import Taxonomy

PAGE = (Path(__file__).parent.parent / "docs" / "skills.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
LINES = [
    line for language, text in BLOCKS if language == "sh" for line in text.splitlines() if line
]
RUN_ELSEWHERE = "conclave eval skills"
"""Takes a minute on the bundled pool: tests/eval/test_skills.py runs it on a smaller one."""


def test_every_command_of_the_page_runs() -> None:
    """In one test, since later ones use what earlier ones wrote."""
    app = typer.Typer()
    skills.register(app)
    app.command()(lambda: None)
    for line in LINES:
        if line.startswith(RUN_ELSEWHERE):
            continue
        run = CliRunner().invoke(
            app, shlex.split(line)[1:], catch_exceptions=False, env={"COLUMNS": "120"}
        )
        assert run.exit_code == 0, f"{line}\n{run.output}"
    assert Path("skills.svg").stat().st_size > 1000


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_every_configuration_of_the_page_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(text)
    if "my-taxonomy" in text:
        (tmp_path / "my-taxonomy.json").write_text('{"a": {"b": "C."}}')
        assert Taxonomy.load(load_config(path).taxonomy).names == ("b",)
    load_config(path)


def test_figures_of_the_page_are_filled_in() -> None:
    assert "FIGURES" not in PAGE
