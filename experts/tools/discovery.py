"""Which tools a server has: asked once, checked, and remembered.

Starting a server to hear what it has takes seconds, so what it said is kept in a file, and a server
is asked when there is none, or when somebody wants to know (``conclave doctor``). What it says is
believed of nothing but itself: a tool whose name or schema is no good is refused by name, with what
is wrong.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experts.tools.cleaning import for_prompt
from experts.tools.schemas import check_schema
from experts.tools.server import ToolServer
from experts.tools.spec import MAX_FUNCTION_NAME, ToolSpec

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_DESCRIPTION_CHARS = 4000
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovered:
    """What a server was found to have."""

    tools: tuple[ToolSpec, ...]
    refused: Mapping[str, str]
    """By name of a tool, what is wrong with it."""


def discover(server: ToolServer, *, file: Path | None = None, key: str = "") -> Discovered:
    """Ask a server, and remember it in ``file`` under ``key``. Blocks. Raises ToolServerFailed."""
    found = read_listing(server.name, server.list_now())
    if file is not None:
        _write(file, key, found)
    return found


def remembered(file: Path, key: str) -> Discovered | None:
    """What was last discovered; None where nothing was, or of a server that was started otherwise
    (``key``)."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if (said["format"], said["key"]) != (_FORMAT, key):
            return None
        specs = tuple(ToolSpec(**tool) for tool in said["tools"])
        return Discovered(tools=specs, refused=said["refused"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_listing(server: str, listing: Sequence[Mapping[str, Any]]) -> Discovered:
    """Specs of what a server lists, and why some of it is not used."""
    specs: dict[str, ToolSpec] = {}
    refused: dict[str, str] = {}
    for said in listing:
        name = str(said.get("name", ""))
        try:
            if name in specs:
                raise ValueError("two tools have this name")
            spec = _spec(server, name, said)
            taken = next((s for s in specs.values() if s.function_name == spec.function_name), None)
            if taken is not None:
                raise ValueError(f"models could not tell its name from that of {taken.name!r}")
        except ValueError as problem:
            refused[for_prompt(name)[:100]] = str(problem)
            continue
        specs[name] = spec
    return Discovered(tools=tuple(specs.values()), refused=refused)


def version_of(spec: ToolSpec, owners: str = "") -> str:
    """Changes with what a tool says of itself, and with the owner's word: nobody else tells us when
    what is behind it changes."""
    told = json.dumps([asdict(spec), owners], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _spec(server: str, name: str, said: Mapping[str, Any]) -> ToolSpec:
    """Raises ValueError, saying what is wrong."""
    if not _NAME.fullmatch(name):
        raise ValueError("its name must be of letters, digits, '.', '_' and '-', the first no mark")
    taken, given = said.get("inputSchema"), said.get("outputSchema")
    check_schema(taken, "the schema of its arguments")
    if given is not None:
        check_schema(given, "the schema of its result")
    hints = said.get("annotations") or {}
    spec = ToolSpec(
        server=server,
        name=name,
        # Models read it, and it is a stranger's text.
        description=for_prompt(str(said.get("description") or ""))[:_MAX_DESCRIPTION_CHARS],
        input_schema=json.dumps(_cleaned(taken), ensure_ascii=False),
        output_schema=None if given is None else json.dumps(given, ensure_ascii=False),
        is_repeatable=bool(hints.get("readOnlyHint") or hints.get("idempotentHint")),
    )
    if len(spec.function_name) > MAX_FUNCTION_NAME:
        raise ValueError(
            f"{spec.function_name!r} is longer than the {MAX_FUNCTION_NAME} characters that models "
            "may be told; give the server a shorter name"
        )
    return spec


def _cleaned(value: Any) -> Any:
    """Descriptions in a schema are read by models, too. Names of properties are left as they are:
    a call must use them."""
    if isinstance(value, dict):
        return {k: _cleaned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_cleaned(v) for v in value]
    return for_prompt(value) if isinstance(value, str) else value


def _write(file: Path, key: str, found: Discovered) -> None:
    said = {
        "format": _FORMAT,
        "key": key,
        "tools": [asdict(tool) for tool in found.tools],
        "refused": dict(found.refused),
    }
    beside = file.with_suffix(".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
        beside.replace(file)
    except OSError as error:  # it is asked again next time
        log.warning("what %s has is not remembered: %s", file.stem, error)
