"""docs/strategies.md says what there is: every strategy, setting, aggregator and mode; and its
commands, configuration and code run."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from experts.modes import shipped_modes
from orchestrator.aggregators import AGGREGATORS, ASKING
from orchestrator.config import load_config
from orchestrator.pool import make_experts
from orchestrator.strategies import COMPOSE, RECRUIT_BY_SKILL, STRATEGIES
from orchestrator.strategies.compose import compose
from orchestrator.strategies.recruit import recruit_by_skill
from routers.plans import Plan
from tests.eval.recorded import data_set
from tests.orchestrator.scripted import World
from tests.typed import typed

PAGE = (Path(__file__).parent.parent / "docs" / "strategies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
FACTORIES: dict[str, Callable[..., object]] = {
    **STRATEGIES, COMPOSE: compose, RECRUIT_BY_SKILL: recruit_by_skill,
}  # fmt: skip
_CELLS = re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)
_PLANS = [Plan.parse(c.replace("by=...", "by='?'")) for c in reversed(_CELLS)]
NAMED = {plan.strategy: plan for plan in _PLANS}
"""The table of strategies stands first, so it goes before that of aggregators."""
COMMANDS = [line for lang, text in BLOCKS if lang == "sh" for line in text.splitlines()]


@pytest.mark.parametrize("name", FACTORIES)
def test_every_strategy_is_there_with_its_defaults(name: str) -> None:
    told = dict(NAMED[name].settings)
    parameters = inspect.signature(FACTORIES[name]).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert set(told) <= set(known)
    assert set(known) - set(told) <= {"merge", "by"}
    for setting, value in told.items():
        assert value == known[setting] or known[setting] is inspect.Parameter.empty, setting


def test_every_aggregator_and_mode_is_there() -> None:
    for name in (*AGGREGATORS, *ASKING, *shipped_modes()):
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONCLAVE_HOME", str(tmp_path / "home"))
    data_set(tmp_path / "mine", 60)
    run = typed(*shlex.split(line)[1:], "--embedder", "hashing-64")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("{")


@pytest.mark.parametrize("text", [text for lang, text in BLOCKS if lang == "yaml"])
def test_the_configuration_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(text)
    config = load_config(path)
    assert [str(a) for a in make_experts(config)["large"].card.arms][-1] == "large:terse"


def test_the_strategy_that_is_shown_works() -> None:
    [code] = [text for lang, text in BLOCKS if lang == "python"]
    made: dict[str, Callable[..., object]] = {}
    exec(code, made)
    STRATEGIES["shown"] = made["two_and_a_referee"]  # type: ignore[index]
    try:
        world = World({"small": "7", "middle": "7", "large": "8"})
        assert world.live("shown").succeeded
        assert world.asked == ["large", "middle", "small"]
    finally:
        del STRATEGIES["shown"]  # type: ignore[attr-defined]
