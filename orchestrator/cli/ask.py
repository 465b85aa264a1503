"""``conclave ask``: one question, one answer, and on request the way it came."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import (
    ConfigOption,
    JsonOption,
    MaxCallsOption,
    MaxCostOption,
    PriceOption,
    TimeoutOption,
)
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.decision import Result


def register(app: typer.Typer) -> None:
    app.command()(ask)


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A policy (conclave, best, cheap) or an expert.")
    ] = "conclave",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show skills, scores, plan, calls and bill.")
    ] = False,
    fallback_price: PriceOption = None,
    max_cost_usd: MaxCostOption = None,
    max_calls: MaxCallsOption = None,
    timeout_s: TimeoutOption = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Ask one question.

    [dim]conclave ask "What is 417 plus 385?" --explain[/dim]
    """
    import asyncio

    from rich.console import Console

    from experts.errors import UserError
    from experts.values import Message
    from orchestrator.cli.waiting import LoadsShown
    from orchestrator.conclave import Conclave
    from orchestrator.config import load_config
    from orchestrator.failures import raise_if_failed
    from orchestrator.queries import Wishes, make_query

    if not question.strip():
        raise UserError("The question is empty. Put it in quotes: conclave ask 'What is 2 + 2?'")
    config = load_config(config_file)
    conclave = Conclave.from_config(config)
    target = model.removeprefix("conclave/")
    messages = (Message(role="user", content=question),)
    wishes = Wishes(
        fallback_price_usd=fallback_price,
        max_cost_usd=max_cost_usd,
        max_calls=max_calls,
        timeout_s=timeout_s,
    )
    query = make_query(config, target, messages, wishes)
    with LoadsShown(conclave.decider.loads_to_come, Console(stderr=True)) as shown:
        work = conclave.answer(query, target, source="ask", on_asked=shown.asked)
        result = asyncio.run(work)
    raise_if_failed(result.answer)
    if as_json:
        typer.echo(json.dumps(result_object(result), ensure_ascii=False))
        return
    if result.answer.abstained:
        typer.echo(f"(no answer: {'; '.join(result.answer.notes)})")
    else:
        typer.echo(result.answer.text)
    if explain:
        print_parts(*format_explanation(result))


def result_object(result: Result) -> dict[str, Any]:
    """JSON-ready: answer, decision, calls, bill."""
    answer = result.answer
    return {
        "text": answer.text,
        "answer": answer.answer,
        "p_correct": answer.p_correct,
        "abstained": answer.abstained,
        "contributors": [str(a) for a in answer.contributors],
        "cost_usd": result.cost_usd,
        "latency_s": round(result.latency_s, 4),
        "notes": list(answer.notes),
        "decision": result.decision.explain(),
        "calls": [
            {
                "arm": str(c.call.arm),
                "stood_in_for": None if c.stood_in_for is None else str(c.stood_in_for),
                "text": c.text,
                "cost_usd": c.cost_usd,
                "latency_s": round(c.latency_s, 4),
                "load_s": round(c.load_s, 4),
                "input_tokens": c.usage.input_tokens,
                "output_tokens": c.usage.output_tokens,
                "logprob": c.logprob,
                "own_odds": c.own_odds,
                "error": c.error,
            }
            for c in answer.completions
        ],
    }


def format_explanation(result: Result) -> list[RenderableType]:
    """Tables for people: what was believed, what was considered, what was called and paid."""
    from rich.table import Table
    from rich.text import Text

    told = result_object(result)
    decision = told["decision"]
    parts: list[RenderableType] = [Text()]
    if "skills" in decision:
        skills = ", ".join(f"{name} {p:.0%}" for name, p in decision["skills"].items())
        general = " (unlike anything known: general)" if decision["is_general"] else ""
        parts.append(Text(f"Skills    {skills}{general}; novelty {decision['novelty']:.2f}"))
        parts.append(_beliefs_table(decision))
        parts.append(_plans_table(decision))
    plan = Text(f"Plan      {decision['plan']}: {decision['reason']}")
    parts.append(plan)
    for asked, others in decision.get("stand_ins", {}).items():
        told_of = ", ".join(f"{s['arm']} (loses {s['loss_usd']:.1e} $)" for s in others)
        parts.append(Text(f"Stand-ins for {asked}, if it is not loaded: {told_of or 'nobody'}"))
    calls = Table("call", "says", "tokens", "$", "s", **_style("Calls"))
    for call in told["calls"]:
        says = Text(call["error"], style="red") if call["error"] else Text(call["text"])
        tokens = f"{call['input_tokens']} + {call['output_tokens']}"
        load = f" (load {call['load_s']:.2f})" if call["load_s"] else ""
        who = f"{call['arm']} for {call['stood_in_for']}" if call["stood_in_for"] else call["arm"]
        calls.add_row(
            who, says, tokens, f"{call['cost_usd']:.2e}", f"{call['latency_s']:.3f}{load}"
        )
    parts.append(calls)
    router = decision.get("router_cost_usd", 0.0)
    believed = "" if told["p_correct"] is None else f", right with {told['p_correct']:.0%}"
    parts.append(
        Text(
            f"Bill      {told['cost_usd']:.2e} $: calls {told['cost_usd'] - router:.2e}, "
            f"router {router:.2e}{believed}"
        )
    )
    parts += [Text(f"Note      {note}", style="yellow") for note in told["notes"]]
    parts.append(Text(f"Decision  {decision['decision_id']}", style="dim"))
    return parts


def _style(title: str) -> dict[str, Any]:
    from rich import box

    return {"title": title, "box": box.SIMPLE_HEAD}


def _beliefs_table(decision: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    is_cold = any("load" in row for row in decision["scores"])
    columns = ["expert", "P(right)", "± sd", "$ a call"]
    columns += ["cold: load s", "$ load", "shared by"] if is_cold else []
    table = Table(*columns, **_style("Scores"))
    for row in decision["scores"]:
        cells = [
            row["arm"], f"{row['p_correct']:.2f}", f"{row['sd']:.2f}", f"{row['cost_usd']:.2e}"
        ]  # fmt: skip
        if load := row.get("load"):
            cells += [f"{load['load_s']:.2g}", f"{load['load_usd']:.1e}", str(load["n_sharing"])]
        table.add_row(*cells)
    return table


def _plans_table(decision: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    price = decision["fallback_price_usd"]
    title = f"Plans, a wrong answer costing {price:g} $"
    table = Table("plan", "P(right)", "$ calls", "$ expected", **_style(title))
    for row in decision["considered"]:
        table.add_row(
            row["plan"],
            f"{row['p_correct']:.3f}",
            f"{row['expected_cost_usd']:.2e}",
            f"{row['objective_usd']:.2e}",
        )
    return table
