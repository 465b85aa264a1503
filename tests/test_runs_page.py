"""docs/runs.md: its commands run, in its order; its configuration is one; its routes are there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.command import app
from orchestrator.config import RunSettings, load_config
from tests.orchestrator.runs.relays import Folder
from tests.orchestrator.runs.test_over_rest import serving

PAGE = (Path(__file__).parent.parent / "docs" / "runs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
[CONFIG] = [text for language, text in BLOCKS if language == "yaml"]


def typed(command: str) -> str:
    """What it says, all of it."""
    ran = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert ran.exit_code == 0, f"{command}\n{ran.output}"
    return ran.output


def with_ids(command: str) -> str:
    """The newest run, and the question that has waited longest, in the places of RUN and ID."""
    if "RUN" in command:
        listed = json.loads(typed("conclave runs list --json"))["runs"]
        command = command.replace("RUN", listed[0]["run_id"])
    if " ID " in command:
        waiting = json.loads(typed("conclave human list --json"))["questions"]
        command = command.replace(" ID ", f" {waiting[0]['question_id']} ")
    return command


def test_every_command_of_the_page_runs(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_dir.parent)
    (data_dir.parent / "conclave.yaml").write_text(CONFIG)
    said: list[str] = []
    for text in [text for language, text in BLOCKS if language == "sh"]:
        for command in text.splitlines():
            if command.startswith("conclave bench "):
                continue  # minutes; run by tests/eval/test_bench_runs.py, with less of everything
            said.append(typed(with_ids(command)))
    assert "802" in said[0]
    assert "Yes, on Friday." in said[-1]
    assert re.findall(r"`conclave [a-z]+ [a-z]+ ", PAGE) == []  # none that is not in a block


def test_its_configuration_has_every_setting(tmp_path: Path) -> None:
    (tmp_path / "conclave.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "conclave.yaml")
    assert [expert.kind for expert in config.experts] == ["bundled", "human"]
    assert config.runs.model_fields_set == set(RunSettings.model_fields)
    assert config.runs == RunSettings(approval_usd=1.0)  # what else it says is the default


def test_its_routes_are_there(tmp_path: Path) -> None:
    told = set(re.findall(r"`(GET|POST) (/v1/[\w/]+)`", PAGE))
    with serving(Folder(tmp_path / "data")) as client:
        paths = client.get("/openapi.json").json()["paths"]
    served = {
        (method.upper(), path.replace("{run_id}", "RUN").replace("{question_id}", "ID"))
        for path, methods in paths.items()
        for method in methods
        if path.startswith(("/v1/runs", "/v1/human"))
    }
    assert told == served
