"""What docs/learning.md shows runs, and says what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.config import ExplorationSettings, LearningSettings, load_config
from tests.eval.recorded import data_set
from tests.typed import typed

PAGE = (Path(__file__).parent.parent / "docs" / "learning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
ROWS = [
    [cell.strip().strip("`") for cell in row.split("|")[1:-1]]
    for row in PAGE.splitlines()
    if row.startswith("|")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run(line: str, tmp_path: Path) -> None:
    data_set(tmp_path / "recorded", 200)
    program, *arguments = shlex.split(line)
    assert program == "conclave"
    if arguments[0] == "eval":
        arguments += ["-n", "60", "--seeds", "2"]
    run = typed(*arguments)
    assert run.returncode == 0, run.stderr
    assert run.stdout


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_every_configuration_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(text)
    assert load_config(path).experts


@pytest.mark.parametrize("section", [LearningSettings, ExplorationSettings])
def test_every_key_is_there_with_its_default(section: type[BaseModel]) -> None:
    said = {row[0]: row[1] for row in ROWS}
    for name, field in section.model_fields.items():
        if field.default is None or isinstance(field.default, bool):
            assert said[name] == {None: "null", True: "true", False: "false"}[field.default]
        else:
            assert float(said[name]) == field.default, name
