"""The tables and remarks of ``conclave eval cost-of-pass``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.commands.cells import figures_table, percent, percent_range, usd, usd_range

if TYPE_CHECKING:
    from rich.table import Table

    from eval.cost_of_pass.account import ArmAccount
    from eval.cost_of_pass.pool_frontier import FrontierAccount
    from eval.statistics import Estimate

_SHARES = ("claimed", "95 %", "by task", "95 %")


def format_accounts(accounts: Sequence[ArmAccount], *, with_person: bool) -> list[Table]:
    """Ratio, honesty, comparison and few runs: a table each, by accuracy."""
    from rich.markup import escape

    rows = sorted(accounts, key=lambda a: (-a.accuracy, a.cost_usd_per_1k))
    ratio = figures_table(
        ("arm",),
        ("accuracy", "95 %", "$ per 1000", "$ per 1000 right", "95 %", "frontier"),
        title=f"Pooled cost-of-pass on {rows[0].n_problems} problems (sum of $ / sum of right)",
    )
    for a in rows:
        mark = "hull" if a.on_hull else "yes" if a.on_frontier else ""
        ratio.add_row(
            escape(a.name), percent(a.accuracy), percent_range(a.accuracy_ci),
            usd(a.cost_usd_per_1k), usd(a.pooled_usd * 1000), usd_range(a.pooled_ci, scale=1000),
            mark,
        )  # fmt: skip
    prices = list(rows[0].objective_usd)
    honest = figures_table(
        ("arm",),
        (
            "$ per 1000 of as accurate others",
            "accuracy of as cheap others",
            *(f"V = {v:g} $" for v in prices),
        ),
        title="What the ratio hides: the best mix of the other arms, and $ per 1000 with a failure"
        " at V (bold: least)",
    )
    least = {v: min(a.objective_usd[v] for a in rows) for v in prices}
    for a in rows:
        objectives = [
            f"[bold]{x * 1000:.3g}[/bold]" if x == least[v] else f"{x * 1000:.3g}"
            for v, x in a.objective_usd.items()
        ]
        as_cheap = a.accuracy_at_equal_cost
        honest.add_row(
            escape(a.name), usd(a.cost_at_equal_accuracy_usd_per_1k),
            "none" if math.isnan(as_cheap) else percent(as_cheap), *objectives,
        )  # fmt: skip
    compared = figures_table(
        ("arm",),
        ("points", "95 %", "p", "cost", "95 %", "cost-of-pass", "95 %"),
        title=f"Against {escape(rows[0].against.reference)}, on the same problems",
    )
    for a in rows:
        c = a.against
        low, high = c.accuracy_difference_ci
        compared.add_row(
            escape(a.name), f"{c.accuracy_difference * 100:+.1f}",
            f"{low * 100:+.1f} to {high * 100:+.1f}", f"{c.p_not_better:.3f}",
            _times(c.cost_ratio), usd_range(c.cost_ratio_ci),
            _times(c.pooled_ratio), usd_range(c.pooled_ratio_ci),
        )  # fmt: skip
    few = figures_table(
        ("arm",),
        (
            "runs", "unsolved", "mean ratio", "where solved", "all orders", "min(ratio, person)",
            "tries, then person",
        ),
        title="Per-problem cost-of-pass, $ for one right answer, mean over problems",
    )  # fmt: skip
    for a in rows:
        p = a.per_problem
        few.add_row(
            escape(a.name), str(p.n_runs), percent(p.unsolved_share), usd(p.mean_ratio_usd),
            usd(p.mean_where_solved_usd), usd(p.over_all_orders_usd),
            usd(p.with_human_usd), usd(p.tries_then_human_usd),
        )  # fmt: skip
    several_runs = any(a.per_problem.n_runs > 1 for a in rows)
    return [ratio, honest, compared, *([few] if with_person or several_runs else [])]


def format_frontier(f: FrontierAccount) -> list[Table]:
    """The frontier thrice, who is essential to it, and what moved it."""
    from rich.markup import escape

    values = figures_table(
        ("frontier, a person included",),
        ("$ a right answer", "95 %", "of a person"),
        title="Mean over problems of the cheapest way to a right answer",
    )
    rows = [
        ("claimed: picked on the runs that are reported", f.claimed),
        ("picked on half of the runs: claimed", f.halves_claimed),
        ("picked on half of the runs: paid on the other", f.halves_paid),
        ("picked by task on half of the problems: claimed", f.by_task_claimed),
        ("picked by task on half of the problems: paid on the other", f.by_task_paid),
    ]
    values.add_row("people alone", usd(f.human_usd), "", "100.0%")
    for name, estimate in rows:
        if estimate:
            share = f"{estimate.value / f.human_usd:.2%}"
            values.add_row(name, usd(estimate.value), usd_range(estimate.ci), share)
    tables = [values]
    for kind, shares in (("family", f.essential_families), ("arm", f.essential_arms)):
        if shares:
            table = figures_table(
                (kind,), _SHARES, title="Essential: by how much the frontier is dearer without"
            )
            for s in shares:
                table.add_row(escape(s.name), *_share(s.claimed), *_share(s.by_task))
            tables.append(table)
    if f.technique_gain:
        table = figures_table(
            ("technique",), _SHARES, title="Gain of techniques: by how much they lower the frontier"
        )
        g = f.technique_gain
        table.add_row(escape(g.name), *_share(g.claimed), *_share(g.by_task))
        tables.append(table)
    if f.releases:
        table = figures_table(
            ("day", "released"),
            ("of a person", "95 %", "gain", "95 %"),
            title="The claimed frontier over time",
        )
        for r in f.releases:
            table.add_row(
                r.day.isoformat(),
                escape(", ".join(r.arms)),
                *_share(r.relative_to_human),
                *_share(r.gain),
            )
        tables.append(table)
    return tables


def format_remarks(accounts: Sequence[ArmAccount], f: FrontierAccount | None) -> list[str]:
    """What a reader should not miss."""
    crowned = min(accounts, key=lambda a: a.pooled_usd)
    best = max(accounts, key=lambda a: a.accuracy)
    lines = [
        f"The bare ratio crowns {crowned.name}, right on {crowned.accuracy:.1%}; the most accurate "
        f"is {best.name} with {best.accuracy:.1%}."
    ]
    winners: dict[str, list[str]] = {}
    for v in accounts[0].objective_usd:
        winner = min(accounts, key=lambda a: a.objective_usd[v])
        winners.setdefault(winner.name, []).append(f"{v:g}")
    lines += [
        f"With a failure at {', '.join(prices)} $ it is {name}." for name, prices in winners.items()
    ]
    if f is None:
        lines.append("The frontier needs to know what a person costs: --human-usd X.")
    elif f.halves_paid is None:
        lines.append(
            "Every problem was run once: the claimed frontier is an oracle's. What can be bought "
            f"by choosing per task costs {usd(f.by_task_paid.value)} $, "
            f"{f.by_task_paid.value / f.claimed.value:.1f} times as much."
        )
    else:
        lines.append(
            f"The claimed frontier is {usd(f.claimed.value)} $; who chooses by such runs pays "
            f"{usd(f.halves_paid.value)} $."
        )
    return lines


def _times(x: float) -> str:
    return "none" if math.isinf(x) else f"x{x:.3g}"


def _share(estimate: Estimate) -> tuple[str, str]:
    low, high = estimate.ci
    return percent(estimate.value), f"{low:.1%} to {high:.1%}"
