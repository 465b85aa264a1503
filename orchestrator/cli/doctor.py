"""``conclave doctor``: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from orchestrator.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from orchestrator.config import Config

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result."""

    check: str
    status: Status
    message: str


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Check this machine and configuration. Exit code 1 when something does not work."""
    from orchestrator.config import load_config
    from orchestrator.reachable import servers_of
    from orchestrator.tool_pool import is_tools
    from orchestrator.vllm_pool import is_on_vllm

    config = load_config(config_file)
    checks: list[Callable[[Config], Finding]] = [
        _python, _torch, _experts, _embedder, _router, _ledger,
    ]  # fmt: skip
    if servers_of(config):
        checks.insert(checks.index(_experts) + 1, _servers)
    if any(is_on_vllm(settings) for settings in (*config.experts, *config.judges)):
        checks.insert(checks.index(_experts) + 1, _engines)
    if any(is_tools(settings) for settings in config.experts):
        # First: asked here, they need not be asked by the others.
        checks.insert(checks.index(_experts), _tools)
    findings = [_guarded(check, config) for check in checks]
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(f) for f in findings]}))
    else:
        marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}
        for finding in findings:
            mark, colour = marks[finding.status]
            typer.secho(f"{mark} {finding.check:<9} {finding.message}", fg=colour)
    if any(f.status == "problem" for f in findings):
        raise typer.Exit(1)


def _guarded(check: Callable[[Config], Finding], config: Config) -> Finding:
    try:
        return check(config)
    except Exception as error:  # a doctor that falls ill is no help
        return Finding(check.__name__.strip("_"), "problem", f"{type(error).__name__}: {error}")


def _python(config: Config) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("python", "ok", version)
    return Finding("python", "warning", f"{version}; tested with 3.11 to 3.13")


def _torch(config: Config) -> Finding:
    import torch

    device = f"GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "CPU"
    return Finding("torch", "ok", f"{torch.__version__} on {device}")


def _experts(config: Config) -> Finding:
    import asyncio

    from experts.local.expert import LocalExpert
    from experts.tools.expert import ToolExpert
    from experts.vllm.expert import VLLMExpert
    from orchestrator.pool import make_experts

    everybody = make_experts(config)
    experts = {n: e for n, e in everybody.items() if not isinstance(e, ToolExpert)}

    here = {n: e for n, e in experts.items() if isinstance(e, LocalExpert)}
    on_engines = [n for n, e in experts.items() if isinstance(e, VLLMExpert)]
    elsewhere = [name for name in experts if name not in {*here, *on_engines}]

    async def load_all() -> None:
        for expert in here.values():
            await expert.load()

    asyncio.run(load_all())
    told = [f"{len(here)} load: {', '.join(here)}"] if here else []
    if on_engines:
        told.append(f"{len(on_engines)} on engines: {', '.join(on_engines)}")
    told += [f"{len(elsewhere)} are elsewhere: {', '.join(elsewhere)}"] if elsewhere else []
    told += [f"{n} are tools"] if (n := len(everybody) - len(experts)) else []
    return Finding("experts", "ok", "; ".join(told))


def _tools(config: Config) -> Finding:
    """Asks every tool server anew, and remembers what it says."""
    from experts.errors import UserError
    from orchestrator.tool_pool import is_tools, server_name, tools_of

    told: list[str] = []
    status: Status = "ok"
    for settings in filter(is_tools, config.experts):
        name = server_name(settings)
        try:
            [found] = tools_of(config, [settings], ask_again=True).values()
        except UserError as error:
            status = "problem"
            told.append(f"{name}: {error}")
            continue
        found.server.close()
        used = [e.tool.name for e in found.experts]
        unused = len(found.discovered.tools) - len(used)
        more = f" ({unused} more are not used)" if unused else ""
        told.append(f"{name} has {', '.join(used) or 'no tools'}{more}")
        for tool, why in found.discovered.refused.items():
            status = status if status == "problem" else "warning"
            told.append(f"{name}.{tool} is refused: {why}")
    return Finding("tools", status, "; ".join(told))


def _engines(config: Config) -> Finding:
    from experts.vllm.expert import VLLMExpert
    from orchestrator.engines_ready import (
        doubts_about,
        doubts_about_time,
        installed_vllm,
        problems_of,
        summary,
        this_machine,
    )
    from orchestrator.pool import make_experts_and_judges

    settings = config.vllm
    everybody = [e for some in make_experts_and_judges(config) for e in some.values()]
    fleet = next(e.fleet for e in everybody if isinstance(e, VLLMExpert))
    python = str(settings.python or sys.executable)
    vllm = installed_vllm(python)
    if not vllm:
        return Finding(
            "engines",
            "problem",
            f"there is no vLLM in {python}. Install it (make vllm, for CPUs; pip install vllm, for "
            "GPUs), and name its Python as `python` under `vllm:`.",
        )
    machine = this_machine(vllm)
    problems = problems_of(settings, machine)
    outlooks = [fleet.load_outlook(name) for name in fleet.models]
    start_s = max(outlook.load_s or 0.0 for outlook in outlooks if outlook)
    doubts = [
        *doubts_about(settings, fleet.models, machine),
        *doubts_about_time(settings, timeout_s=config.limits.timeout_s, start_s=start_s),
    ]
    if problems or doubts:
        status: Status = "problem" if problems else "warning"
        return Finding("engines", status, ". ".join([vllm, *problems, *doubts]) + ".")
    return Finding("engines", "ok", summary(fleet.models, settings, machine))


def _servers(config: Config) -> Finding:
    import asyncio

    from orchestrator.reachable import reach, servers_of

    reached = asyncio.run(reach(servers_of(config)))
    problems = [f"{r.expert}: {r.problem}" for r in reached if r.problem]
    doubts = [f"{r.expert}: {r.doubt}" for r in reached if r.doubt]
    if problems or doubts:
        return Finding(
            "servers", "problem" if problems else "warning", ". ".join(problems + doubts) + "."
        )
    return Finding(
        "servers", "ok", f"{len(reached)} answer: {', '.join(r.expert for r in reached)}"
    )


def _embedder(config: Config) -> Finding:
    from skills.embedders import make_embedder

    vector = make_embedder(config.embedder).embed(["Is anybody there?"])
    return Finding("embedder", "ok", f"{config.embedder}, {vector.shape[1]} dimensions")


def _router(config: Config) -> Finding:
    from experts.errors import NotFitted
    from experts.expert import Pool
    from orchestrator.pool import make_experts
    from orchestrator.states import load_fitted
    from skills.embedders import make_embedder

    pool = Pool.of(make_experts(config).values())
    try:
        fitted = load_fitted(config, pool, make_embedder(config.embedder))
    except NotFitted as reason:
        return Finding("router", "warning", f"experts answer by name only. {reason}")
    n = fitted.report["n_questions"]
    return Finding("router", "ok", f"fitted on {n} questions, embedder {fitted.embedder}")


def _ledger(config: Config) -> Finding:
    from orchestrator.ledger import Ledger

    with Ledger(config.ledger_path) as ledger:
        n = ledger.rows("SELECT COUNT(*) AS n FROM calls")[0]["n"]
        total = ledger.total_cost_usd()
    return Finding("ledger", "ok", f"{config.ledger_path}: {n} calls, {total:.4g} $ in all")
