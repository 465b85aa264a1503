"""Every strategy and aggregator on the bundled pool: eight real language models, in this process.

Held-out questions of three kinds, as many of each: one skill; two skills in sequence, put as one
text (``eval.bundled.sequences``); look-alikes at the borders of fields (``eval.bundled.borders``).
The strategies' own bodies are run by the wave driver, on the beliefs of the router that ships. What
they say once they are not asked again (``remembering``), and every strategy pays for all that it
asks, and for one decision of the router; the best single expert pays for no router.

Settings are chosen on questions of the split val, drawn alike, for each price of a failure; test is
played once. The *default policy* chooses among plans by itself, question by question; at each price
it is compared, question by question, with every fixed strategy in cost + V (1 - right).
Intervals are 95 %: Wilson's of shares, bootstrap over questions of all else. Five to ten minutes on
two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from eval.benchmarks.strategies_menu import JUDGE, Family, families
from eval.benchmarks.strategies_play import Bench, Way, oracle
from eval.benchmarks.strategies_questions import KINDS, TWO, Drawn, draw
from eval.benchmarks.strategies_report import AtPrice, Report, against_of, row_of
from experts.local.expert import LocalExpert
from experts.values import Arm
from orchestrator.conclave import Conclave
from routers.plans import Plan

DEFAULT = "the default policy"
BEST_SINGLE = "best single"
ORACLE = "oracle of one call"
TOLD_PARTS = "the default, told the parts"
POLICIES = ("conclave", "best", "cheap")
_NOT_PLAYED = ("modes, mode_gate: no bundled expert has more than one mode",)


async def run_strategies(
    conclave: Conclave,
    *,
    n: int,
    seed: int,
    policies: Sequence[str] = POLICIES,
    judge: str = JUDGE,
    draw: Callable[..., Drawn] = draw,
    tell: Callable[[str], None] = lambda what: None,
) -> Report:
    """``n`` questions of each kind to report, as many to choose settings on."""
    for expert in conclave.experts.values():
        if isinstance(expert, LocalExpert):
            await expert.load()  # what loading costs is not the first strategy's to pay
    bench = Bench(conclave)
    composer = conclave.require_fitted().composer
    menu = families(len(composer.compositions) if composer else 0, judge)
    val, test = (draw(n, split, seed=seed) for split in ("val", "test"))
    tell(f"choosing settings on {len(val.questions)} questions of val")
    chosen, single = await _chosen(bench, val, menu, policies)
    tell(f"playing {len(test.questions)} questions of test")
    return Report(
        n={kind: len(test.rows(kind)) for kind in KINDS},
        n_val=len(val.questions),
        n_experts=len(conclave.pool.names),
        seed=seed,
        prices=await _judged(bench, test, menu, chosen, single, seed=seed),
        not_played=_NOT_PLAYED,
    )


_Chosen = Mapping[str, Mapping[tuple[str, str], Plan]]
"""By policy and family."""


async def _chosen(
    bench: Bench, val: Drawn, menu: Sequence[Family], policies: Sequence[str]
) -> tuple[_Chosen, Arm]:
    """Each family's setting with the least objective at each policy's price, and the expert that
    is right most often."""
    several = [(f.key, plan) for f in menu if len(f.plans) > 1 for plan in f.plans]
    plays: dict[object, list[Way]] = {arm: bench.alone(val, arm) for arm in bench.arms}
    for policy in policies:
        decisions = bench.decide(val, policy)
        for key, plan in several:
            plays[policy, key, plan] = bench.by_plan(decisions, plan)
    played = await bench.play(plays, val)
    chosen = {}
    for policy in policies:
        v = bench.price_usd(policy)
        cost = {p: float(played[policy, *p].objective(v).mean()) for p in several}
        chosen[policy] = {
            f.key: min(f.plans, key=lambda plan, f=f: cost.get((f.key, plan), 0.0))  # type: ignore[misc]
            for f in menu
        }
    # The cheaper one among equals.
    single = max(bench.arms, key=lambda a: (played[a].score.mean(), -played[a].cost_usd.mean()))
    return chosen, single


async def _judged(
    bench: Bench, test: Drawn, menu: Sequence[Family], chosen: _Chosen, single: Arm, *, seed: int
) -> tuple[AtPrice, ...]:
    plays: dict[object, list[Way]] = {arm: bench.alone(test, arm) for arm in bench.arms}
    for policy, plans in chosen.items():
        decisions = bench.decide(test, policy)
        plays[policy] = bench.by_own_choice(decisions)
        for key, plan in plans.items():
            plays[policy, key] = bench.by_plan(decisions, plan)
    played = await bench.play(plays, test)
    at_best = oracle([played[arm] for arm in bench.arms])
    policies = tuple(chosen) if test.two_parts else ()
    told, parted = await bench.told_parts(test, policies)
    found = []
    for policy, plans in chosen.items():
        v, default = bench.price_usd(policy), played[policy]
        rows = [
            row_of(DEFAULT, policy, "policy", default, test, seed=seed),
            row_of(BEST_SINGLE, str(single), "baseline", played[single], test, seed=seed),
            row_of(ORACLE, "", "ceiling", at_best, test, seed=seed),
        ]
        if policy in told:
            rows.append(row_of(TOLD_PARTS, TWO, "ceiling", told[policy], parted, seed=seed))
        against = []
        for family in menu:
            setting, fixed = str(plans[family.key]), played[policy, family.key]
            rows.append(row_of(family.name, setting, family.role, fixed, test, seed=seed))
            against.append(against_of(family, setting, fixed, default, v, seed=seed))
        found.append(
            AtPrice(policy=policy, fallback_price_usd=v, rows=tuple(rows), against=tuple(against))
        )
    return tuple(found)
