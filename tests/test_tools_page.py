"""docs/tools.md: its commands run, its configuration is one, and its table has every field."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.command import app
from orchestrator.config import MCPServerSettings, load_config

PAGE = (Path(__file__).parent.parent / "docs" / "tools.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)


def test_every_command_of_the_page_runs(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_dir.parent)
    said = ""
    for text in [text for language, text in BLOCKS if language == "sh"]:
        for command in text.splitlines():
            if command.startswith("pip "):
                continue  # the extra is a dependency of tests
            run = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
            assert run.exit_code == 0, f"{command}\n{run.output}"
            said += run.output
    assert "math has evaluate, simplify, solve" in said
    [shown] = [text for language, text in BLOCKS if language == "text"]
    assert shown in said


def test_its_configurations_are_some(tmp_path: Path) -> None:
    texts = [text for language, text in BLOCKS if language == "yaml"]
    path = tmp_path / "conclave.yaml"
    kinds = []
    for text in texts:
        path.write_text(text)
        kinds.append([settings.kind for settings in load_config(path).experts])
    assert kinds == [["bundled", "mcp", "mcp"], ["bundled", "tools", "tools"]]


def test_every_field_is_there() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    named = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert set(MCPServerSettings.model_fields) <= named
