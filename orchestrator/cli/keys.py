"""``conclave keys``: who may ask this server, how fast, and for how many dollars."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import ConfigOption, JsonOption, MaxCallsOption, MaxCostOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from orchestrator.config import Config
    from orchestrator.keys.key import VirtualKey

_DAY_S = 86_400


def register(app: typer.Typer) -> None:
    keys = typer.Typer(
        name="keys",
        help="Who may ask this server, how fast, and for how many dollars.",
        no_args_is_help=True,
    )
    keys.command("create")(create)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    app.add_typer(keys)


def create(
    name: Annotated[str, typer.Argument(help="Whose it is, for whoever reads the list.")],
    budget_usd: Annotated[
        float | None, typer.Option(help="Dollars that it may spend in a period.", min=1e-9)
    ] = None,
    per: Annotated[
        str, typer.Option(help="The period, of the calendar in UTC: day, week, month or total.")
    ] = "month",
    requests_per_min: Annotated[
        int | None, typer.Option("--requests-per-min", help="Requests a minute.", min=1)
    ] = None,
    tokens_per_min: Annotated[
        int | None, typer.Option("--tokens-per-min", help="Tokens a minute, in and out.", min=1)
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Requests at a time.", min=1)] = None,
    max_cost_usd: MaxCostOption = None,
    max_calls: MaxCallsOption = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds at most, for each call.", min=1e-3)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="An expert or policy that it may ask; again for more. All by default."),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is for; again for more: chat, route, feedback, models, experts, "
            "decisions, mcp (these by default), runs, human, learning."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(help="Days that it is good for.", min=1e-6)] = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Make a key. Its secret is shown once, and kept nowhere.

    From the first key on, servers of this data folder let in nobody without one.
    """
    from contextlib import closing

    from orchestrator.config import load_config
    from orchestrator.keys.key import ASKING, Allowance, new_key
    from orchestrator.keys.opening import open_keys

    config = load_config(config_file)
    models = [m.removeprefix("conclave/") for m in model or []]
    if models:
        _check_models(models, config)
    now = time.time()
    key, secret = new_key(
        name,
        now=now,
        models=models,
        routes=route or ASKING,
        allowance=Allowance(
            requests_per_min=requests_per_min,
            tokens_per_min=tokens_per_min,
            max_concurrent=max_concurrent,
            budget_usd=budget_usd,
            period=per,  # type: ignore[arg-type]  # it looks for itself
            max_cost_usd=max_cost_usd,
            max_calls=max_calls,
            timeout_s=timeout,
        ),
        expires_at=None if days is None else now + days * _DAY_S,
    )
    with closing(open_keys(config)) as store:
        store.add(key)
    if as_json:
        typer.echo(json.dumps({**key_object(key), "secret": secret}))
        return
    typer.echo(secret)
    typer.echo(f"That is the key of {name}: keep it, it is not shown again.", err=True)


def list_keys(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Keys, what they may use, and what they have spent in their period."""
    from contextlib import closing

    from orchestrator.config import load_config
    from orchestrator.keys.opening import open_keys
    from orchestrator.keys.periods import begin_of
    from orchestrator.ledger import Ledger

    config = load_config(config_file)
    with closing(open_keys(config)) as store, Ledger(config.ledger_path) as ledger:
        keys = store.all()
        now = time.time()
        spent = [ledger.spent_usd(k.key_id, begin_of(k.allowance.period, now)) for k in keys]
    if as_json:
        told = [{**key_object(k), "spent_usd": usd} for k, usd in zip(keys, spent, strict=True)]
        typer.echo(json.dumps({"keys": told}, ensure_ascii=False))
    elif keys:
        print_parts(format_keys(keys, spent, now))
    else:
        typer.echo(
            "There are no keys: whoever reaches a server of this data folder may ask it. Make one "
            "with: conclave keys create NAME"
        )


def revoke(
    name: Annotated[str, typer.Argument(help="Name or id, as `conclave keys list` shows it.")],
    config_file: ConfigOption = None,
) -> None:
    """Take a key back. Servers that run refuse it within a second; what is under way goes on."""
    from contextlib import closing

    from orchestrator.config import load_config
    from orchestrator.keys.opening import open_keys

    with closing(open_keys(load_config(config_file))) as store:
        key = store.revoke(name, now=time.time())
    typer.echo(f"The key {key.name} ({key.key_id}) is revoked.", err=True)


def _check_models(models: Sequence[str], config: Config) -> None:
    """Raises UnknownExpert."""
    from experts.errors import UnknownExpert
    from orchestrator.pool import make_experts

    known = [*config.all_policies, *make_experts(config)]
    for name in models:
        if name not in known:
            raise UnknownExpert(name, known, what="model (policy or expert)")


def key_object(key: VirtualKey) -> dict[str, Any]:
    """JSON-ready; its secret is not known, and its digest is nobody's business."""
    from dataclasses import asdict

    told = asdict(key)
    del told["digest"]
    return {**told, "models": sorted(key.models), "routes": sorted(key.routes)}


def format_keys(keys: Sequence[VirtualKey], spent_usd: Sequence[float], now: float) -> Table:
    """A row a key."""
    from rich import box
    from rich.table import Table

    table = Table(
        "name", "id", "state", "spent $", "budget $", "limits", "may ask", "is for",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for key, usd in zip(keys, spent_usd, strict=True):
        allowed = key.allowance
        budget = "" if allowed.budget_usd is None else f"{allowed.budget_usd:g} a {allowed.period}"
        table.add_row(
            key.name,
            key.key_id,
            _state(key, now),
            f"{usd:.4g}",
            budget.replace("a total", "in all"),
            "\n".join(_limits(key)),
            ", ".join(sorted(key.models)) or "all",
            ", ".join(sorted(key.routes)),
        )
    return table


def _state(key: VirtualKey, now: float) -> str:
    if key.is_good(now):
        return "good"
    return "expired" if key.revoked_at is None else "revoked"


def _limits(key: VirtualKey) -> list[str]:
    allowed = key.allowance
    told = {
        "requests/min": allowed.requests_per_min,
        "tokens/min": allowed.tokens_per_min,
        "at a time": allowed.max_concurrent,
        "$ a request": allowed.max_cost_usd,
        "calls a request": allowed.max_calls,
        "s a call": allowed.timeout_s,
    }
    return [f"{value:g} {what}" for what, value in told.items() if value is not None]
