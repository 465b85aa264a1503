"""docs/latent.md: its commands run, its configurations are some, and its counts hold."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from experts.lab.composites.questions import NEW_PAIRS
from experts.lab.composites.steps import pairs
from experts.lab.composites.world import COUNTRY_OF, GUILDS, is_held_out
from experts.latent.card import FORMS
from orchestrator.config import load_config
from tests.typed import typed

PAGE = (Path(__file__).parent.parent / "docs" / "latent.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
SHELL = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
SHOWN_ELSEWHERE = (
    "conclave latent train",
    "conclave latent scorer",
    "conclave bench latent",
    "VLLM_CPU",
)
"""By tests of their own: minutes, or engines."""


@pytest.mark.parametrize("line", [c for c in SHELL if not c.startswith(SHOWN_ELSEWHERE)])
def test_commands_run(line: str) -> None:
    _, *arguments = shlex.split(line)
    run = typed(*arguments)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_its_configurations_are_some(tmp_path: Path) -> None:
    texts = [text for language, text in BLOCKS if language == "yaml"]
    path = tmp_path / "conclave.yaml"
    for text in texts:
        path.write_text(text)
        [expert] = load_config(path).experts
        assert expert.kind == ("local" if "scorer:" in text else "latent")
    assert len(texts) == 4


def test_what_it_counts_is_so() -> None:
    assert all(f"| `{form}`" in PAGE for form in FORMS)
    procedures = [p for p in pairs() if not p[0].is_fact]
    assert f"Of {len(procedures)}\npairs of procedures nine" in PAGE
    assert len(NEW_PAIRS) == 9
    for entities in (GUILDS, set(COUNTRY_OF.values())):
        assert sum(map(is_held_out, entities)) / len(entities) == pytest.approx(0.25, abs=0.08)
