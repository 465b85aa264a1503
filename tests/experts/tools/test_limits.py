"""Hosts and paths in arguments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from experts.tools.limits import NotAllowed, ToolLimits, check_arguments

HOSTS = ToolLimits(hosts=("example.org", "*.safe.test"))


def is_allowed(arguments: Any, limits: ToolLimits, cwd: Path = Path("/nowhere")) -> bool:
    try:
        check_arguments(arguments, limits, cwd)
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.org/a?b=c", True),
        ("see https://EXAMPLE.org./x and more", True),
        ("http://a.b.safe.test:8080", True),
        ("http://safe.test", False),
        ("http://notsafe.test", False),
        ("http://evil.org", False),
        ("http://example.org.evil.org", False),
        ("http://example.org@evil.org", False),
        ("http://evil.org@example.org", False),
        ("http://example.org\\@evil.org", False),
        ("http://evil.org#example.org", False),
        ("http://evil.org/http://example.org", False),
        ("ok https://example.org then gopher://evil.org", False),
        ("http://2130706433/", False),
        ("http://[::1]/", False),
        ("http://ex%61mple.org/", False),
        ("http:///etc", False),
        ("HTTP://evil.org", False),
        ("no address at all: 3/4", True),
    ],
)
def test_hosts(text: str, expected: bool) -> None:
    assert is_allowed({"q": text}, HOSTS) is expected
    assert is_allowed({"deep": [{"er": [text]}]}, HOSTS) is expected
    assert is_allowed({text: 1}, HOSTS) is expected
    assert is_allowed({"q": text}, ToolLimits())


def test_what_a_name_says_is_a_host_is_taken_for_one() -> None:
    assert is_allowed({"host": "example.org"}, HOSTS)
    assert not is_allowed({"host": "evil.org"}, HOSTS)
    assert not is_allowed({"URL": "evil.org/x"}, HOSTS)
    assert is_allowed({"name": "evil.org"}, HOSTS)  # not protected: docs/tools.md
    assert not is_allowed({"q": "https://example.org"}, ToolLimits(hosts=()))


def test_paths(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("x")
    (inside / "link").symlink_to(tmp_path / "secret")
    limits = ToolLimits(paths=(inside,))
    for text, expected in {
        f"{inside}/a/b": True,
        str(inside): True,
        f"{inside}/../secret": False,
        f"{inside}2/x": False,
        f"{inside}/link": False,
        "/etc/passwd": False,
        "~/x": False,
        "../secret": False,
        "a/../../secret": False,
        "./a": True,
        "C:\\Windows": True,  # a name below the folder, on this system
        "file:///etc/passwd": False,
        f"file://{inside}/x": True,
        "plain words, and/or more": True,
        "/x\0y": False,
    }.items():
        assert is_allowed({"q": text}, limits, inside) is expected, text
    assert is_allowed({"path": "a.txt"}, limits, inside)
    assert not is_allowed({"path": "a.txt"}, limits, tmp_path)
    assert not is_allowed({"files": {"File": "x"}}, limits, tmp_path)


def test_the_message_says_what_is_allowed() -> None:
    with pytest.raises(NotAllowed, match=r"'evil.org' is not allowed; these are: example.org, \*"):
        check_arguments({"q": "http://evil.org"}, HOSTS, Path())
    with pytest.raises(NotAllowed, match="these are: none"):
        check_arguments({"q": "/etc"}, ToolLimits(paths=()), Path())


@pytest.mark.parametrize("unit", ["a", "a.", "1", "a:", "a:/", "../", "a/", " ", "http://x "])
def test_long_arguments_are_looked_at_once(unit: str) -> None:
    limits = ToolLimits(hosts=("example.org",), paths=(Path("/nowhere"),))
    started = time.process_time()
    for before in ("", "1", "/"):
        is_allowed({"q": before + unit * (100_000 // len(unit))}, limits)
    assert time.process_time() - started < 4


@pytest.mark.parametrize("scheme", ["x" * 5000, "1http", "-.a1"])
def test_a_long_or_odd_scheme_hides_no_host(scheme: str) -> None:
    assert not is_allowed({"q": f"see {scheme}://evil.org/"}, ToolLimits(hosts=("example.org",)))
