"""What docs/cost-of-pass.md shows runs, and says what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.eval.commands import run_eval, told
from tests.eval.recorded import data_set

PAGE = (Path(__file__).parents[2] / "docs" / "cost-of-pass.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run: the data, and the file of days that the page shows."""
    folder = tmp_path_factory.mktemp("page")
    data_set(folder / "recorded", 200)
    [days] = [text for language, text in BLOCKS if language == "json"]
    (folder / "days.json").write_text(days, encoding="utf-8")
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    program, group, *arguments = shlex.split(line)
    assert (program, group) == ("conclave", "eval")
    run = run_eval(*arguments)
    assert run.exit_code == 0, run.output
    assert told(run)


def test_snippets_print_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [text for language, text in BLOCKS if language == "python"]
    exec(compile(code, "cost-of-pass.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.split() == " ".join(re.findall(r"# -> (.*)", code)).split()


def test_every_check_of_the_audit_is_explained() -> None:
    room = Path(__file__).parents[2] / "eval" / "audit"
    source = "".join(path.read_text(encoding="utf-8") for path in room.glob("*.py"))
    named = set(re.findall(r'check(?:: str)? ?= ?"([a-z-]+)"', source))
    explained = {"duplicates-across-splits", "duplicates-within-split", "two-answers", "prices"}
    # Notes on what was not there to be checked, and the summary of a clean look.
    plain = {"columns", "controls", "pool", "splits", "no-answers", "no-tokens"}
    for check in named - explained - plain:
        assert check in PAGE, check
