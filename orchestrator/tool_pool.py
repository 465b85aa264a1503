"""From configuration to tools: servers, discovery, and an expert for each tool."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from experts.cards import ExpertCard, Prices
from experts.errors import ConfigError, ToolServerFailed, UnknownName
from experts.modes import DIRECT
from experts.tools.discovery import Discovered, discover, remembered, version_of
from experts.tools.expert import ToolExpert
from experts.tools.http import Endpoint
from experts.tools.limits import ToolLimits
from experts.tools.server import ToolServer, ToolThread, Way
from experts.tools.servers import BUNDLED, TYPICAL_S
from experts.tools.spec import ToolSpec
from experts.tools.stdio import Command
from orchestrator.config import (
    BundledToolSettings,
    Config,
    ExpertSettings,
    MCPServerSettings,
    ToolLimitSettings,
    ToolPriceSettings,
)

log = logging.getLogger(__name__)

ToolSettings = MCPServerSettings | BundledToolSettings
_ROOT = Path(__file__).parent.parent
_LIMITS = ("timeout_s", "max_result_bytes", "max_concurrent", "max_calls_per_query")


def is_tools(settings: ExpertSettings) -> TypeGuard[ToolSettings]:
    return isinstance(settings, MCPServerSettings | BundledToolSettings)


@dataclass(frozen=True, slots=True)
class Found:
    """One configured server, and what it has."""

    name: str
    server: ToolServer
    discovered: Discovered
    experts: tuple[ToolExpert, ...]


def tools_of(
    config: Config, all_settings: Sequence[ToolSettings], *, ask_again: bool = False
) -> dict[int, Found]:
    """By ``id`` of its settings, each server's tools. Servers that nothing is remembered of are
    started and asked; with ``ask_again``, all are.

    Raises ConfigError for a server that cannot be asked, or tools that it has not.
    """
    if not all_settings:
        return {}
    thread = ToolThread()
    found = {}
    for settings in all_settings:
        try:
            found[id(settings)] = _found(config, settings, thread, ask_again)
        except (ToolServerFailed, ConfigError, UnknownName):
            thread.close()
            raise
    return found


def server_name(settings: ToolSettings) -> str:
    if isinstance(settings, BundledToolSettings):
        return settings.name or settings.bundled
    return settings.name


def _found(config: Config, settings: ToolSettings, thread: ToolThread, ask_again: bool) -> Found:
    name = server_name(settings)
    way, cwd = _way(settings, name)
    per_tool = settings.per_tool
    limits = [settings.max_result_bytes, *(t.max_result_bytes or 0 for t in per_tool.values())]
    server = ToolServer(name, way, thread, max_result_bytes=max(limits), start_s=settings.start_s)
    file, key = config.data_dir / "tools" / f"{name}.json", _key(way)
    found = None if ask_again else remembered(file, key)
    if found is None:
        try:
            found = discover(server, file=file, key=key)
        except ToolServerFailed as error:
            raise ConfigError(
                f"{_capital(error)}. Correct its entry under `experts:`, or take it out."
            ) from None
    specs = {spec.name: spec for spec in found.tools}
    alone = settings.alone if isinstance(settings.alone, list) else []
    for wanted in {*(settings.tools or ()), *per_tool, *alone}:
        if wanted in found.refused:
            raise ConfigError(
                f"The tool {wanted!r} of {name!r} cannot be used: {found.refused[wanted]}."
            )
        if wanted not in specs:
            raise UnknownName(wanted, specs, what=f"tool of {name!r}:")
    for wanted in alone:
        if specs[wanted].text_parameter is None:
            raise ConfigError(
                f"The tool {wanted!r} of {name!r} cannot answer alone (`alone`): it needs more, or "
                "other things, than one text."
            )
    if settings.tools is not None:
        specs = {wanted: specs[wanted] for wanted in settings.tools}
    if not ask_again:  # who asks again looks at it
        for refused, why in found.refused.items():
            log.warning("the tool %r of %r is left out: %s", refused, name, why)
    experts = tuple(_expert(config, settings, server, spec, cwd) for spec in specs.values())
    return Found(name=name, server=server, discovered=found, experts=experts)


def _expert(
    config: Config, settings: ToolSettings, server: ToolServer, spec: ToolSpec, cwd: Path
) -> ToolExpert:
    own = settings.per_tool.get(spec.name, ToolLimitSettings())
    limits = {k: getattr(own, k) or getattr(settings, k) for k in _LIMITS}
    for key in ("hosts", "paths"):
        mine, all_ = getattr(own, key), getattr(settings, key, None)
        chosen = all_ if mine is None else mine
        limits[key] = None if chosen is None else tuple(chosen)
    prices = own.prices or settings.prices or _bundled_prices(config)
    bound = ToolLimits(**limits)
    named = settings.alone if isinstance(settings.alone, list) else []
    is_arm = spec.text_parameter is not None and (settings.alone is True or spec.name in named)
    card = ExpertCard(
        name=spec.card_name,
        kind="tool",
        description=spec.description.split("\n")[0],
        prices=Prices.a_call(prices.call_usd),
        context_tokens=bound.max_result_bytes,
        modes=(DIRECT,) if is_arm else (),
        version=version_of(spec, settings.version),
        tool=spec,
    )
    return ToolExpert(card, server, bound, cwd=cwd)


def _bundled_prices(config: Config) -> ToolPriceSettings:
    return ToolPriceSettings(call_usd=TYPICAL_S * config.host_usd_per_s)


def _way(settings: ToolSettings, name: str) -> tuple[Way, Path]:
    """How the server is reached, and what relative paths in arguments are relative to."""
    if isinstance(settings, BundledToolSettings):
        # -P: a file mcp.py where somebody happens to stand must not be taken for the library.
        started = (sys.executable, "-P", "-m", BUNDLED[settings.bundled])
        # A call is one processor's work, and a pool of threads for each would not fit into what
        # such a server may use of memory.
        env = {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return Command(words=started, env=env, cwd=_ROOT), _ROOT
    cwd = settings.cwd or Path.cwd()
    if settings.url is not None:
        return Endpoint(url=settings.url, headers=_headers(settings)), cwd
    command = str(settings.command)
    looked_up = shutil.which(command) or command
    if not cwd.is_dir():
        raise ConfigError(f"The tool server {name!r}: there is no folder {cwd} (`cwd`).")
    env = {key: os.environ[key] for key in settings.env if key in os.environ}
    return Command(words=(looked_up, *settings.args), env=env, cwd=cwd), cwd


def _headers(settings: MCPServerSettings) -> Mapping[str, str]:
    wanted = dict(settings.headers)
    found = {name: _secret(settings, variable) for name, variable in wanted.items()}
    if settings.api_key_env:
        found["Authorization"] = f"Bearer {_secret(settings, settings.api_key_env)}"
    return found


def _secret(settings: MCPServerSettings, variable: str) -> str:
    if not (value := os.environ.get(variable)):
        raise ConfigError(
            f"The tool server {settings.name!r} takes a header from the environment variable "
            f"{variable}, which is not set. Set it: export {variable}=..., or take it out."
        )
    return value


def _key(way: Way) -> str:
    """Of what was remembered: a server that is started otherwise is another one. No secrets."""
    told = [*way.words, str(way.cwd)] if isinstance(way, Command) else [str(way)]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def _capital(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
