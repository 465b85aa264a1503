"""Files of a batch: what went in, what came out, and what is wrong with that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.ledger import Ledger


def problems_of_batch(
    out: Path, questions: Sequence[Mapping[str, str]], expected: Mapping[str, str], ledger: Path
) -> list[str]:
    """What is wrong with an answers file and with the ledger's calls for it."""
    problems = []
    records = read_lines(out)
    times = Counter(r["id"] for r in records)
    if wrong := {q["id"] for q in questions} ^ set(times):
        problems.append(f"{out.name}: {len(wrong)} lost or strange, such as {min(wrong)}")
    if twice := [i for i, n in times.items() if n > 1]:
        problems.append(f"{out.name}: {len(twice)} answered twice, such as {min(twice)}")
    other = [r for r in records if r["text"] != expected.get(r["id"])]
    problems += [
        f"{out.name}: {r['id']} is {r['text']!r}, not {expected.get(r['id'])!r}" for r in other
    ]
    with Ledger(ledger) as books:
        calls = books.completions_of([r["query_id"] for r in records])
    bills = Counter(c.completion.call.query_id for c in calls)
    if len(bills) != len(records) or set(bills.values()) != {1}:
        shown = dict(Counter(bills.values()))
        problems.append(f"{out.name}: {len(records)} answers, queries by number of bills: {shown}")
    told, paid = sum(r["cost_usd"] for r in records), sum(c.completion.cost_usd for c in calls)
    if abs(told - paid) > 1e-9 * max(told, paid):
        problems.append(f"{out.name}: its answers cost {told} $, the ledger says {paid} $")
    return problems


def write_lines(path: Path, lines: Sequence[Mapping[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
