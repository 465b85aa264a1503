"""What a command shows while it waits for an expert to be loaded."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from experts.local.expert import LocalExpert
from experts.values import LoadOutlook
from orchestrator.cli.waiting import LoadsShown
from routers.loads import Load
from tests.engines import ask
from tests.typed import typed

LINE = "Waiting for logic to be loaded, about 41 s"


def load(load_s: float) -> Load:
    outlook = LoadOutlook(load_s=load_s, n_waiting=0)
    return Load(outlook=outlook, load_s=load_s, usd_per_s=0.0)


def shown(*, is_terminal: bool) -> str:
    """Of calls to an expert that is there, one that soon is, and one that is not, asked twice."""
    out = StringIO()
    loads = {"units": load(0.2), "logic": load(41.0)}
    console = Console(file=out, force_terminal=is_terminal, width=60)
    with LoadsShown(lambda: loads, console) as told:
        told.asked([ask("words"), ask("units")])
        assert out.getvalue() == ""
        told.asked([ask("logic")])
        told.asked([ask("logic")])
    return out.getvalue()


def test_a_load_is_one_plain_line_where_nobody_looks() -> None:
    assert shown(is_terminal=False) == f"{LINE} ...\n"


def test_a_load_is_a_clock_on_a_terminal_that_is_gone_in_the_end() -> None:
    out = shown(is_terminal=True)
    assert LINE in out
    assert "0:00:00" in out
    assert out.rindex("\x1b[2K") > out.rindex(LINE)  # the line is erased,
    assert out.endswith("\x1b[2K")
    assert "\x1b[?25h" in out  # and the cursor is back


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_ask_says_what_it_waits_for_and_leaves_stdout_to_the_answer(
    monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    outlook = LoadOutlook(load_s=41.0, n_waiting=0)
    monkeypatch.setattr(LocalExpert, "load_outlook", lambda expert: outlook)
    run = typed("ask", "Reverse the word cat.", "-m", "words", *more)
    assert run.stderr == "Waiting for words to be loaded, about 41 s ...\n"
    assert run.stdout.strip() == "tac" if not more else json.loads(run.stdout)["answer"] == "tac"
