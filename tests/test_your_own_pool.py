"""docs/your-own-pool.md, typed as it stands, with the bundled experts as the model server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.command import app
from orchestrator.config import load_config
from orchestrator.ledger import Ledger
from orchestrator.pool import make_experts_and_judges
from tests.server import Server

PAGE = (Path(__file__).parent.parent / "docs" / "your-own-pool.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
SHELL = [text for language, text in BLOCKS if language == "sh"]
OWN_SERVER = "http://localhost:8001"
N_QUESTIONS, N_EXPERTS = 24, 3


def test_every_command_of_the_page_runs(
    server: Server, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one test, since each command uses what those before it have written; in this process, so
    that libraries are imported once. That the command itself starts is in test_cli.py."""
    monkeypatch.setenv("COLUMNS", "120")
    out = ""
    for text in SHELL:
        if text.startswith("conclave serve"):
            continue  # the fixture's
        for part in re.split(r"^(?=conclave )", text.replace(OWN_SERVER, server.url), flags=re.M):
            if not part.startswith("conclave "):
                subprocess.run(["sh", "-e", "-c", part], check=True)
                continue
            run = CliRunner().invoke(app, shlex.split(part)[1:], catch_exceptions=False)
            assert run.exit_code == 0, f"{part}\n{run.output}"
            out += run.stdout
    assert "fill in FILL_IN in line" in out
    assert f"{N_QUESTIONS * N_EXPERTS} calls made, 0 already recorded, 0 failed" in out
    assert "Santiago" in out
    assert f"Wrote {N_QUESTIONS} questions" in out
    verdict = json.loads(next(x for x in out.splitlines() if x.startswith('{"data": "ledger"')))
    assert verdict["n_models"] == N_EXPERTS
    assert verdict["n_dev"] + verdict["n_test"] == N_QUESTIONS
    with Ledger(data_dir / "ledger.sqlite") as ledger:
        recorded = list(ledger.recorded_calls())
    assert 0.3 < sum(c.score or 0 for c in recorded) / len(recorded) < 0.9
    assert not any(c.completion.usage.estimated for c in recorded)


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_every_configuration_of_the_page_is_one(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVER_KEY", "x")
    path = tmp_path / "conclave.yaml"
    path.write_text(text)
    config = load_config(path)
    experts, judges = make_experts_and_judges(config)
    assert (list(experts), list(judges)) == (["mine", "mini"], ["examiner"])
