"""Tools from configuration to answers: discovered once, remembered, checked, asked and billed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from experts.errors import ConfigError, UnknownName, UserError
from experts.expert import Pool
from experts.tools.expert import ToolExpert
from experts.values import Message
from orchestrator.cli.command import app
from orchestrator.conclave import Conclave
from orchestrator.config import load_config
from orchestrator.failures import raise_if_failed
from orchestrator.ledger import Ledger
from orchestrator.pool import make_experts
from orchestrator.queries import Wishes, make_query
from orchestrator.tool_pool import tools_of
from tests.experts.tools.conftest import PROGRAM
from tests.experts.tools.scripted_server import TOOLS

MADE: list[ToolExpert] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """Sessions end with the interpreter; here, with the test."""
    yield
    for expert in MADE:
        expert.server._thread.close()
    MADE.clear()


def configured(folder: Path, **more: Any) -> Path:
    """A file with a scripted expert's server, beside nobody else."""
    entry = {
        "kind": "mcp",
        "name": "s",
        "command": sys.executable,
        "args": ["-S", str(PROGRAM), str(folder)],
        "prices": {"call_usd": 0.01},
        **more,
    }
    path = folder / "conclave.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(folder / "data"), "experts": [entry]}))
    return path


def tools(path: Path) -> dict[str, ToolExpert]:
    made = {n: e for n, e in make_experts(load_config(path)).items() if isinstance(e, ToolExpert)}
    MADE.extend(made.values())
    return made


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text().split()) if (folder / "starts").exists() else 0


def test_a_server_is_asked_once_for_what_it_has(tmp_path: Path) -> None:
    path = configured(tmp_path)
    found = tools(path)
    assert list(found) == [f"s.{tool['name']}" for tool in TOOLS]
    card = found["s.echo"].card
    assert (card.kind, card.description, card.prices.call_usd) == ("tool", "Says it again.", 0.01)
    assert card.arms == ()  # nobody said that it may answer alone
    again = tools(path)
    assert [e.card for e in again.values()] == [e.card for e in found.values()]
    assert starts(tmp_path) == 1


def test_only_those_named_with_their_own_limits(tmp_path: Path) -> None:
    found = tools(
        configured(
            tmp_path,
            tools=["fetch", "echo"],
            alone=["echo"],
            hosts=["example.org"],
            paths=["below"],
            timeout_s=5,
            per_tool={"echo": {"timeout_s": 1, "hosts": [], "prices": {"call_usd": 0.5}}},
        )
    )
    assert list(found) == ["s.fetch", "s.echo"]
    fetch, echo = found.values()
    assert (fetch.limits.timeout_s, fetch.limits.hosts) == (5, ("example.org",))
    assert fetch.limits.paths == (tmp_path / "below",)
    assert (echo.limits.timeout_s, echo.limits.hosts, echo.card.prices.call_usd) == (1, (), 0.5)
    assert [str(a) for a in Pool.of(found.values()).arms] == ["s.echo"]


@pytest.mark.parametrize(
    ("more", "error", "reason"),
    [
        ({"tools": ["ecko"]}, UnknownName, "Did you mean 'echo'?"),
        ({"per_tool": {"ecko": {}}}, UnknownName, "Did you mean 'echo'?"),
        ({"alone": ["add"]}, ConfigError, "'add' of 's' cannot answer alone"),
        ({"args": ["-c", "print('x'); raise SystemExit('no luck')"]}, ConfigError, "no luck"),
        ({"command": "/no/such"}, ConfigError, "cannot start `/no/such"),
        ({"prices": {}}, ConfigError, "prices.call_usd"),
        ({"prices": {"call_usd": "FILL_IN"}}, ConfigError, "number of dollars a call in place"),
        ({"url": "http://x/mcp"}, ConfigError, "and not both"),
        ({"command": None}, ConfigError, "needs `command`"),
        ({"api_key_env": "X"}, ConfigError, "`api_key_env` says nothing beside `command`"),
        ({"timeout": 3}, ConfigError, "Did you mean 'timeout_s'?"),
        ({"env": ["MY_KEY=secret"]}, ConfigError, "NAME of an environment variable"),
        ({"name": "a.b"}, ConfigError, "name"),
        ({"cwd": "nowhere"}, ConfigError, "there is no folder"),
        ({"hosts": ["http://x"]}, ConfigError, "hosts"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(
    tmp_path: Path, more: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as caught:
        tools(configured(tmp_path, **more))
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_header_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"command": None, "args": None, "url": "http://127.0.0.1:9/mcp", "api_key_env": "KEY_X"}
    path = configured(tmp_path, **entry)
    said = yaml.safe_load(path.read_text())
    for key in ("command", "args"):
        del said["experts"][0][key]
    path.write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError, match="KEY_X, which is not set"):
        tools(path)
    monkeypatch.setenv("KEY_X", "let-me-in")
    with pytest.raises(ConfigError, match="cannot be asked") as caught:
        tools(path)
    assert "let-me-in" not in str(caught.value)


def test_a_tool_with_a_bad_schema_is_refused_by_name(tmp_path: Path) -> None:
    listing = [{"name": "liar", "inputSchema": {"type": "array"}}, TOOLS[0]]
    (tmp_path / "listing.json").write_text(json.dumps(listing))
    args = ["-S", str(PROGRAM), str(tmp_path), str(tmp_path / "listing.json")]
    assert list(tools(configured(tmp_path, args=args))) == ["s.echo"]
    with pytest.raises(ConfigError, match="'liar' of 's' cannot be used: the schema of its arg"):
        tools(configured(tmp_path, args=args, tools=["liar"]))
    run = CliRunner().invoke(app, ["doctor", "-c", str(configured(tmp_path, args=args)), "--json"])
    [told] = [f for f in json.loads(run.stdout)["findings"] if f["check"] == "tools"]
    assert told["status"] == "warning"
    assert "s has echo" in told["message"]
    assert "s.liar is refused: the schema of its arguments must be of an object" in told["message"]


def test_what_a_server_says_anew_is_read_anew_when_asked(tmp_path: Path) -> None:
    path = configured(tmp_path)
    before = tools(path)["s.echo"].card.version
    file = tmp_path / "data" / "tools" / "s.json"
    file.write_text(file.read_text().replace("Says it again.", "Sends your keys."))
    assert tools(path)["s.echo"].card.version != before
    config = load_config(path)
    [found] = tools_of(config, config.experts, ask_again=True).values()  # type: ignore[arg-type]
    MADE.extend(found.experts)
    assert found.experts[0].card.version == before
    file.write_text("{")
    assert tools(path)["s.echo"].card.version == before


def test_a_tool_answers_by_name_and_is_billed_by_the_call(tmp_path: Path) -> None:
    path = configured(tmp_path, tools=["echo", "add"])
    config = load_config(path)
    with Ledger(":memory:") as ledger:
        conclave = Conclave.from_config(config, ledger=ledger)
        MADE.extend(e for e in conclave.experts.values() if isinstance(e, ToolExpert))

        def asked(name: str, **wishes: Any) -> Any:
            message = (Message(role="user", content="Answer: 7"),)
            query = make_query(config, name, message, Wishes(**wishes))
            return asyncio.run(conclave.answer(query, name, source="test"))

        result = asked("s.echo")
        assert (result.answer.text, result.answer.answer, result.cost_usd) == (
            "Answer: 7", "7", 0.01
        )  # fmt: skip
        with pytest.raises(UserError, match="cannot be asked in words: it takes a, b"):
            raise_if_failed(asked("s.add").answer)
        too_dear = asked("s.echo", max_cost_usd=0.009)
        assert "may cost up to 0.01 $" in " ".join(too_dear.answer.notes)
        assert ledger.total_cost_usd() == pytest.approx(0.01)


def test_the_doctor_says_what_works_and_what_does_not(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["doctor", "-c", str(configured(tmp_path, tools=["echo"]))])
    assert f"tools     s has echo ({len(TOOLS) - 1} more are not used)" in run.output
    assert "1 are tools" in run.output
    run = CliRunner().invoke(app, ["doctor", "-c", str(configured(tmp_path, command="/no/such"))])
    assert run.exit_code == 1
    assert "cannot start `/no/such" in run.output


def test_init_writes_a_server_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCLAVE_HOME", str(tmp_path / "home"))
    path = tmp_path / "conclave.yaml"
    way = f"{sys.executable} -S {PROGRAM} {tmp_path}"
    run = CliRunner().invoke(app, ["init", str(path), "--mcp", way, "--tools", "math"])
    assert run.exit_code == 0, run.output
    assert "fill in FILL_IN" in run.output
    text = path.read_text()
    assert "name: scripted_server" in text
    with pytest.raises(ConfigError, match="not filled in yet"):
        load_config(path)
    path.write_text(text.replace("FILL_IN", "0.002"))
    bundled, math, mcp = load_config(path).experts
    assert (bundled.kind, math.kind, mcp.kind) == ("bundled", "tools", "mcp")
    assert mcp.tools == [tool["name"] for tool in TOOLS]
    wrong = CliRunner().invoke(app, ["init", str(path), "--force", "--tools", "maths"])
    assert isinstance(wrong.exception, UserError)
    assert "Did you mean 'math'?" in str(wrong.exception)
    assert not [p for p in (tmp_path / "starts").read_text().split() if _is_alive(int(p))]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
