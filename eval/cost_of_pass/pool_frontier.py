"""The cost-of-pass frontier of a set of arms, a person included, and who it depends on.

V = mean over problems of the cheapest way to a right answer (arXiv:2504.13359), three times:

- *claimed*: the arm is picked per problem on the runs that are then reported. What the literature
  computes. With one run a problem it is the oracle's bill: nobody can buy it.
- *chosen on half, paid on the other*: per problem, where every arm ran at least twice.
- *by task*: the arm is chosen for a whole task on half of its problems and paid on the other half,
  one try and then a person. It can be bought, and needs one run a problem only.

Essentialness, gains of techniques and gains of releases are shares of V, with paired intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from eval.cost_of_pass.few_runs import chosen_and_paid, chosen_by_group, plug_in
from eval.cost_of_pass.figures import cost_ratio
from eval.cost_of_pass.frontier import essentialness, frontier, release_gains, technique_gain
from eval.outcomes.runs import Arm
from eval.statistics import Estimate, Resamples, percentile_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """By how much of V someone matters."""

    name: str
    claimed: Estimate
    """(V without - V) / V without, in [0, 1]: on the claimed frontier."""
    by_task: Estimate
    """The same on the frontier by task; may be below 0, by bad luck in choosing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """The claimed frontier after a day's releases."""

    day: date
    arms: tuple[str, ...]
    relative_to_human: Estimate
    """V / V of people alone."""
    gain: Estimate
    """(V before - V) / V before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierAccount:
    """Dollars for one right answer, means over problems."""

    human_usd: float
    claimed: Estimate
    halves_claimed: Estimate | None
    """On the half of the runs that chose; None with a single run."""
    halves_paid: Estimate | None
    by_task_claimed: Estimate
    by_task_paid: Estimate
    essential_arms: tuple[Share, ...]
    """Most essential first."""
    essential_families: tuple[Share, ...]
    techniques: tuple[str, ...]
    """Arms that count as techniques."""
    technique_gain: Share | None
    """Gain of adding them to the others; None without a technique."""
    releases: tuple[Release, ...]


def frontier_of(
    arms: Sequence[Arm],
    tasks: np.ndarray,
    human_usd: np.ndarray,
    *,
    families: Mapping[str, str] | None = None,
    techniques: Sequence[str] = (),
    released: Mapping[str, date] | None = None,
    seed: int = 0,
) -> FrontierAccount:
    """tasks: (n,) names; human_usd: (n,); families: arm to family, for every arm."""
    return _Frontier(arms, tasks, human_usd, seed).account(families, techniques, released)


class _Frontier:
    """Values, halves and resamples that all figures share."""

    def __init__(
        self, arms: Sequence[Arm], tasks: np.ndarray, human_usd: np.ndarray, seed: int
    ) -> None:
        self.arms, self.human, self.seed = arms, human_usd, seed
        self.names = [a.name for a in arms]
        self.values = np.column_stack([plug_in(a.cost_usd, a.right) for a in arms])
        self.cost = np.column_stack([a.cost_usd.mean(axis=1) for a in arms])
        self.right = np.column_stack([a.right.mean(axis=1) for a in arms])
        _, self.task = np.unique(tasks.astype(str), return_inverse=True)
        self.draws = Resamples(len(human_usd), seed=seed)

    def account(
        self,
        families: Mapping[str, str] | None,
        techniques: Sequence[str],
        released: Mapping[str, date] | None,
    ) -> FrontierAccount:
        everyone = np.ones(len(self.arms), bool)
        by_task = self.by_task(everyone)
        halves = self.halves()
        technical = np.isin(self.names, list(techniques))
        told = None
        if technical.any() and not technical.all():
            told = Share(
                name="+".join(techniques),
                claimed=Estimate(
                    value=technique_gain(
                        self.values[:, ~technical], self.values[:, technical], self.human
                    ),
                    ci=self.lost(self.best(~technical), self.best(everyone)).ci,
                ),
                by_task=self.lost(self.by_task(~technical)[1], by_task[1]),
            )
        return FrontierAccount(
            human_usd=float(self.human.mean()),
            claimed=Estimate(
                value=frontier(self.values, self.human),
                ci=percentile_interval(self.draws.means(self.best(everyone))),
            ),
            halves_claimed=self.mean(halves[0]) if halves else None,
            halves_paid=self.mean(halves[1]) if halves else None,
            by_task_claimed=self.mean(by_task[0]),
            by_task_paid=self.mean(by_task[1]),
            essential_arms=self.essential(self.names),
            essential_families=(
                self.essential([families[n] for n in self.names]) if families else ()
            ),
            techniques=tuple(np.array(self.names, object)[technical]),
            technique_gain=told,
            releases=self.over_time(released) if released else (),
        )

    def best(self, keep: np.ndarray) -> np.ndarray:
        """(n,) the cheapest way, of these arms and a person."""
        result: np.ndarray = np.minimum(
            self.values[:, keep].min(axis=1, initial=np.inf), self.human
        )
        return result

    def by_task(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return chosen_by_group(
            self.cost[:, keep], self.right[:, keep], self.task, self.human, seed=self.seed
        )

    def halves(self) -> tuple[np.ndarray, np.ndarray] | None:
        n_runs = min(a.n_runs for a in self.arms)
        if n_runs < 2:
            return None
        cost = np.stack([a.cost_usd[:, :n_runs] for a in self.arms], axis=1)
        right = np.stack([a.right[:, :n_runs] for a in self.arms], axis=1)
        return chosen_and_paid(cost, right, self.human, seed=self.seed)

    def mean(self, values: np.ndarray) -> Estimate:
        return Estimate(
            value=float(values.mean()), ci=percentile_interval(self.draws.means(values))
        )

    def lost(self, without: np.ndarray, with_all: np.ndarray) -> Estimate:
        """(mean without - mean with) / mean without."""
        means = self.draws.means(np.column_stack([without, with_all]))
        # Where all is free already, nobody is missed.
        drawn = np.nan_to_num(1 - cost_ratio(means[:, 1], means[:, 0]), nan=0.0)
        before, after = float(without.mean()), float(with_all.mean())
        return Estimate(
            value=(before - after) / before if before > 0 else 0.0,
            ci=percentile_interval(drawn),
        )

    def essential(self, families: Sequence[str]) -> tuple[Share, ...]:
        everyone = np.ones(len(self.arms), bool)
        best, (_, paid) = self.best(everyone), self.by_task(everyone)
        shares = []
        for name, claimed in essentialness(self.values, families, self.human).items():
            others = np.array([f != name for f in families])
            shares.append(
                Share(
                    name=name,
                    claimed=Estimate(value=claimed, ci=self.lost(self.best(others), best).ci),
                    by_task=self.lost(self.by_task(others)[1], paid),
                )
            )
        return tuple(sorted(shares, key=lambda s: -s.claimed.value))

    def over_time(self, released: Mapping[str, date]) -> tuple[Release, ...]:
        days = {j: released[name] for j, name in enumerate(self.names) if name in released}
        rows, before = [], self.human
        alone = self.draws.means(self.human)
        for day, relative, gain in release_gains(self.values, days, self.human):
            out = np.array([days.get(j, date.max) <= day for j in range(len(self.arms))])
            now = self.best(out)
            rows.append(
                Release(
                    day=day,
                    arms=tuple(self.names[j] for j, d in days.items() if d == day),
                    relative_to_human=Estimate(
                        value=relative, ci=percentile_interval(self.draws.means(now) / alone)
                    ),
                    gain=Estimate(value=gain, ci=self.lost(before, now).ci),
                )
            )
            before = now
        return tuple(rows)
