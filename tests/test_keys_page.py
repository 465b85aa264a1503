"""docs/keys.md: its commands run, its options are all there, its configuration is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.command import app
from orchestrator.config import load_config
from orchestrator.keys.key import ASKING, ROUTES

PAGE = (Path(__file__).parent.parent / "docs" / "keys.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)


def typed(command: str) -> str:
    ran = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert ran.exit_code == 0, f"{command}\n{ran.output}"
    return ran.output


def test_its_commands_run(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    [commands] = [text for language, text in BLOCKS if language == "sh"]
    said = {command: typed(command) for command in commands.splitlines()}
    assert "20 a month" in said["conclave keys list"]
    assert "cheap" in said["conclave keys list"]


def test_it_has_every_option_and_route() -> None:
    shown = set(re.findall(r"--[a-z-]+", typed("conclave keys create --help")))
    assert set(re.findall(r"`(--[a-z-]+)`", PAGE)) == shown - {"--json", "--config", "--help"}
    line = next(line for line in PAGE.splitlines() if line.startswith("| `--route`"))
    by_default, rest = line.split("unless told otherwise")
    assert set(re.findall(r"`(\w+)`", by_default)) == ASKING
    assert set(re.findall(r"`(\w+)`", rest)) == set(ROUTES) - ASKING


def test_its_configurations_are_some(tmp_path: Path) -> None:
    alone, together = [text for language, text in BLOCKS if language == "yaml"]
    (tmp_path / "alone.yaml").write_text(alone)
    assert load_config(tmp_path / "alone.yaml").server.host == "0.0.0.0"
    (tmp_path / "together.yaml").write_text(together)
    assert load_config(tmp_path / "together.yaml").server.redis_url == "redis://127.0.0.1:6379/0"
