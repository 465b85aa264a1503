"""Every command and snippet of the README runs, and its file tree is the tree."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import Server
from tests.typed import typed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
SHELL = [
    line
    for language, text in BLOCKS
    if language == "sh"
    for line in text.replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
SHOWN_ELSEWHERE = ("git clone", "cd ", "conclave serve", "conclave demo", "conclave lab ", "make ")
"""Run by tests of their own (the server, the demo, the laboratory), or about the checkout."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all commands: later ones use what earlier ones wrote."""
    return tmp_path_factory.mktemp("commands")


@pytest.mark.parametrize("line", [c for c in SHELL if not c.startswith(SHOWN_ELSEWHERE)])
def test_commands_run(
    line: str, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is more than our command runs in a shell; ours here, so that libraries are loaded once.
    That it starts in a process of its own is in tests/orchestrator/test_cli.py."""
    line = line.split("  #", maxsplit=1)[0].replace("http://localhost:8000", server.url)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CONCLAVE_HOME", str(folder / "home"))
    name, *arguments = shlex.split(line)
    if name == "conclave" and not {">", "|", "&&"} & set(arguments):
        run = typed(*arguments)
    else:
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout or ">" in line
    assert not run.stdout.startswith('{"error"')


@pytest.mark.parametrize("line", [c for c in SHELL if c.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in shlex.split(line, comments=True)[1:]:
        assert re.search(rf"^{target}:.*##", makefile, re.M), target


@pytest.mark.parametrize("code", [text for language, text in BLOCKS if language == "python"])
def test_snippets_run(code: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    code = code.replace("http://localhost:8000", server.url)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    for shown in re.findall(r"# -> (.*)", code):
        assert shown in capsys.readouterr().out


def test_the_file_tree_names_what_there_is() -> None:
    [tree] = [text for _, text in BLOCKS if text.startswith("skills/")]
    folder = Path()
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = ROOT / name
            assert folder.exists(), name
        else:
            assert (folder / name).exists(), f"{folder.name}/{name}"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
