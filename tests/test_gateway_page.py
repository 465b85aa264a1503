"""docs/gateway.md: its commands are some, and its table of metrics is what a server tells."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from experts.fake import FakeExpert
from orchestrator.cli.command import app
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.orchestrator.batch.batches import echo, make_conclave

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.S)


def test_the_benchmark_has_these_options_and_make_its_target() -> None:
    make, bench = COMMANDS[0].splitlines()
    target = make.removeprefix("make ")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    options = re.findall(r"--[a-z-]+", bench)
    said = CliRunner().invoke(app, ["bench", "gateway", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in said for option in options)


def test_a_key_for_metrics_is_made(data_dir: Path) -> None:
    ran = CliRunner().invoke(app, shlex.split(COMMANDS[1])[1:], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output


def test_the_table_has_every_metric(ledger: Ledger) -> None:
    table = PAGE.split("| metric | labels |")[1]
    told = set(re.findall(r"`(conclave_\w+)`", table))
    with TestClient(
        create_app(make_conclave(ledger, [FakeExpert("it", echo)]), Config())
    ) as client:
        text = client.get("/metrics").text
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
    }
    assert told - {"conclave_cost_of_pass_usd"} == families  # that one only where one was right
