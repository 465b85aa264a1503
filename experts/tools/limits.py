"""What a tool may use, and where its arguments may point.

Limits hold against anybody. The rules for hosts and paths are weaker: they read the arguments of a
call before it is sent, so they stop a model (or whoever writes to it) from pointing a tool
elsewhere. They do not bind the server, which can do whatever its process may: docs/tools.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Looked for only where a word begins: from each letter of a long one it would be quadratic.
_URL = re.compile(r"(?<![A-Za-z0-9+.-])[0-9+.-]*([A-Za-z][A-Za-z0-9+.-]*:/{2,}[^\s\"'<>]*)")
_MAX_PATH_CHARS = 4096
"""No file has a longer one (Linux's PATH_MAX), and links are looked up at each of its steps."""
_HOST_KEYS = frozenset({"domain", "host", "hostname", "server", "uri", "url", "website"})
_PATH_KEYS = frozenset(
    {"dir", "directory", "file", "file_path", "filename", "filepath", "folder", "path"}
)
_LOOKS_LIKE_A_PATH = re.compile(r"(?:[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[\\/])")
_CLIMBS = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|\Z)")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.:-]*[a-z0-9])?")


class NotAllowed(ValueError):
    """Arguments point where they may not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolLimits:
    """Of one tool."""

    timeout_s: float = 30.0
    """Of a call, waiting for its turn included."""
    max_result_bytes: int = 100_000
    """Of the text, in UTF-8; a longer result is refused, and never held as a whole."""
    max_concurrent: int = 8
    """Calls at a time."""
    max_calls_per_query: int = 16
    hosts: tuple[str, ...] | None = None
    """Hosts that arguments may name: ``example.org``, or ``*.example.org`` for those below it. None
    is any, empty is none."""
    paths: tuple[Path, ...] | None = None
    """Folders and files that arguments may name, with what is below them; as for hosts."""


def check_arguments(arguments: Any, limits: ToolLimits, cwd: Path) -> None:
    """Raises NotAllowed for a URL, host or path in ``arguments``, however deep, that the limits do
    not allow. cwd: what relative paths are relative to."""
    if limits.hosts is None and limits.paths is None:
        return
    for key, text in _texts(arguments, ""):
        urls = _URL.findall(text)
        if not urls and key in _HOST_KEYS and text:
            urls = [f"//{text}"]
        for url in urls:
            if url.lower().startswith("file:"):
                _check_path(unquote(urlsplit(url).path), limits, cwd)
            else:
                _check_host(url, limits)
        is_path = _LOOKS_LIKE_A_PATH.match(text) or _CLIMBS.search(text)
        if (is_path or key in _PATH_KEYS) and not urls:
            _check_path(text, limits, cwd)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every string, with the name that it stands under, names of members included."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield "", str(name)
            yield from _texts(inner, str(name).lower())
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)


def _check_host(url: str, limits: ToolLimits) -> None:
    if limits.hosts is None:
        return
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        raise NotAllowed(f"{url!r} is no URL") from None
    # What parsers read differently (http://good@evil, http://good\@evil) is nobody's honest URL.
    if "@" in parts.netloc or "\\" in url or "%" in parts.netloc or not _HOST.fullmatch(host):
        raise NotAllowed(f"{url!r} is no plain URL: write scheme://host/path")
    for allowed in limits.hosts:
        below = allowed.removeprefix("*")
        if host == allowed or (below != allowed and host.endswith(below)):
            return
    raise NotAllowed(f"the host {host!r} is not allowed; these are: {_listed(limits.hosts)}")


def _check_path(text: str, limits: ToolLimits, cwd: Path) -> None:
    if limits.paths is None:
        return
    if "\0" in text:
        raise NotAllowed("a path holds a NUL character")
    if len(text) > _MAX_PATH_CHARS:
        raise NotAllowed(f"a path has {len(text)} characters; at most {_MAX_PATH_CHARS} are read")
    # Links are followed as they are now; who can change them can lead the tool elsewhere.
    place = os.path.realpath(cwd / os.path.expanduser(text.replace("\\", "/")))  # noqa: PTH111
    for allowed in limits.paths:
        if Path(place).is_relative_to(os.path.realpath(allowed)):
            return
    raise NotAllowed(f"the path {text!r} is not allowed; these are: {_listed(limits.paths)}")


def _listed(allowed: tuple[object, ...]) -> str:
    return ", ".join(map(str, allowed)) or "none"
