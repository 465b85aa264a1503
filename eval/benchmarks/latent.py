"""``conclave bench latent``: latent heads beside other ways of using the same frozen members.

Heads are trained for each form and training seed, and controls for the default form; each is
evaluated on several draws of test questions. A figure's interval is a bootstrap over training seeds
and draws together; differences are taken draw by draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.benchmarks.latent_parts import Part, What, evaluate
from eval.latent.accuracy import WAYS
from eval.statistics import Estimate, percentile_interval
from experts.bundled import FOLDER, LATENT_MEMBERS
from experts.lab.composites.questions import KINDS, Kind, training_questions
from experts.latent.card import FormName
from experts.latent.plan import Control, TrainingPlan
from experts.latent.training.examples import Example
from experts.latent.training.heads import Job, Tell, train_heads
from experts.side_by_side import side_by_side

DEFAULT_FORM: FormName = "soft_prefix"
CONTROLS: tuple[Control, ...] = ("shuffled", "zeroed")
LORA = "lora"
OTHERS = "others"
FIRST_DRAW = 100
"""Draws of test questions; below it are seeds that were looked at while this was made."""
Say = Callable[[str], None]
MEMBERS = {name: FOLDER / name for name in LATENT_MEMBERS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """How often one way is right on one kind of question."""

    shares: np.ndarray
    """(n training seeds, n draws); one row for ways that are not trained."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Cells:
        """A row a training seed."""
        return cls(shares=np.array(rows))

    @property
    def estimate(self) -> Estimate:
        return over_cells(self.shares)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentReport:
    """All that was found of accuracy."""

    n: int
    """Questions of each kind and draw."""
    training_seeds: tuple[int, ...]
    draws: tuple[int, ...]
    cells: Mapping[Kind, Mapping[str, Cells]]
    """By kind, then by way: forms, controls, baselines."""
    own_skills: Mapping[str, tuple[Cells, Cells]]
    """Of single steps that a member knows: the default form, and that member by itself."""
    n_parameters: Mapping[str, int]
    seconds: Mapping[str, float]
    """Of training a head."""

    def difference(self, kind: Kind, one: str, other: str) -> Estimate:
        """Mean of one less mean of the other."""
        cells = self.cells[kind]
        return over_cells(cells[one].shares - cells[other].shares)


def over_cells(shares: np.ndarray, *, seed: int = 0) -> Estimate:
    """Mean of (seeds, draws), with the bootstrap interval of drawing both anew."""
    rng = np.random.default_rng(seed)
    n_seeds, n_draws = shares.shape
    resampled = np.array(
        [
            shares[np.ix_(rng.integers(n_seeds, size=n_seeds), rng.integers(n_draws, size=n_draws))]
            .mean()
            for _ in range(2000)
        ]
    )  # fmt: skip
    return Estimate(value=float(shares.mean()), ci=percentile_interval(resampled))


def train_all(
    folder: Path,
    plan: TrainingPlan,
    *,
    forms: Sequence[FormName],
    seeds: Sequence[int],
    n_questions: int,
    n_jobs: int,
    tell: Tell,
) -> dict[str, Path]:
    """Heads of every form and control and seed, by name, in their folders; those that are there
    are kept."""
    jobs = []
    for seed in seeds:
        drawn = [Example(q.text, q.answer) for q in training_questions(n_questions, seed=seed)]
        for name, one in _plans(plan, forms, seed).items():
            jobs.append(Job(name=name, plan=one, questions=drawn, folder=folder / name))
    train_heads(jobs, MEMBERS, n_jobs=n_jobs, tell=tell)
    return {job.name: job.folder for job in jobs}


def run_accuracy(
    heads: Mapping[str, Path],
    plan: TrainingPlan,
    *,
    forms: Sequence[FormName],
    seeds: Sequence[int],
    n: int,
    n_draws: int,
    n_questions: int,
    n_jobs: int,
    say: Say,
) -> LatentReport:
    """Every head on every draw, and adapters and the other ways beside them."""
    draws = tuple(range(FIRST_DRAW, FIRST_DRAW + n_draws))

    def part(what: What, seed: int, name: str, one: TrainingPlan) -> Part:
        return Part(
            what=what, head=heads[f"{name}-{seed}"], members=MEMBERS, plan=one, n=n, draws=draws,
            n_questions=n_questions,
        )  # fmt: skip

    # The longest first.
    parts = {f"{LORA}-{s}": part("lora", s, DEFAULT_FORM, replace(plan, seed=s)) for s in seeds}
    parts[OTHERS] = part("others", seeds[0], DEFAULT_FORM, plan)
    for seed in seeds:
        for name, one in _plans(plan, forms, seed).items():
            parts[name] = part("head", seed, name.rsplit("-", 1)[0], one)
    say(f"evaluating {len(parts)} parts")
    found = side_by_side(evaluate, parts, n_jobs=n_jobs, report=lambda name, _: say(f"did {name}"))
    ways = (*forms, *CONTROLS, LORA)
    trained = {way: [found[f"{way}-{seed}"] for seed in seeds] for way in ways}
    others, default = found[OTHERS], trained[DEFAULT_FORM]
    cells: dict[Kind, dict[str, Cells]] = {}
    for kind in KINDS:
        cells[kind] = {
            way: Cells.of([f.shares[kind, ""] for f in fs]) for way, fs in trained.items()
        }
        cells[kind] |= {way: Cells.of([others.shares[kind, way]]) for way in WAYS[1:]}
    return LatentReport(
        n=n,
        training_seeds=tuple(seeds),
        draws=draws,
        cells=cells,
        own_skills={
            m: (Cells.of([f.owned[m] for f in default]), Cells.of([others.owned[m]]))
            for m in MEMBERS
        },
        n_parameters={way: fs[0].n_parameters for way, fs in trained.items()},
        seconds={way: fs[0].seconds for way, fs in trained.items() if way != LORA},
    )


def _plans(plan: TrainingPlan, forms: Sequence[FormName], seed: int) -> dict[str, TrainingPlan]:
    plans = {f"{form}-{seed}": replace(plan, form=form, seed=seed) for form in forms}
    for control in CONTROLS:
        plans[f"{control}-{seed}"] = replace(plan, form=DEFAULT_FORM, seed=seed, control=control)
    return plans
