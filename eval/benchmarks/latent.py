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

from eval.latent.accuracy import WAYS, latent_right, other_ways
from eval.latent.lora import answers_with, train_adapters
from eval.statistics import Estimate, percentile_interval
from experts.bundled import FOLDER, LATENT_MEMBERS
from experts.lab.composites.questions import (
    KINDS,
    Kind,
    LatentQuestion,
    draw_questions,
    training_questions,
)
from experts.latent.card import FormName
from experts.latent.net.team import Team
from experts.latent.plan import Control, TrainingPlan
from experts.latent.training.examples import Example
from experts.latent.training.heads import Job, Tell, train_heads

DEFAULT_FORM: FormName = "soft_prefix"
CONTROLS: tuple[Control, ...] = ("shuffled", "zeroed")
LORA = "lora"
FIRST_DRAW = 100
"""Draws of test questions; below it are seeds that were looked at while this was made."""
Say = Callable[[str], None]
MEMBERS = {name: FOLDER / name for name in LATENT_MEMBERS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """How often one way is right on one kind of question."""

    shares: np.ndarray
    """(n training seeds, n draws); one row for ways that are not trained."""

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
    say: Say,
) -> LatentReport:
    """Every head on every draw, and the baselines beside them."""
    draws = tuple(range(FIRST_DRAW, FIRST_DRAW + n_draws))
    drawn = {
        (kind, draw): draw_questions(kind, "test", n, seed=draw) for kind in KINDS for draw in draws
    }
    found: dict[tuple[Kind, str], list[list[float]]] = {}
    parameters: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for seed in seeds:
        for name, one in _plans(plan, forms, seed).items():
            way = name.rsplit("-", 1)[0]
            team = Team.load(heads[name], MEMBERS)
            parameters[way] = team.n_parameters
            seconds[way] = float(team.card.trained["seconds"])
            say(f"evaluating {name}")
            for kind in KINDS:
                shares = [
                    _share(latent_right(team, drawn[kind, d], control=one.control)) for d in draws
                ]
                found.setdefault((kind, way), []).append(shares)
        say(f"training and evaluating {LORA}-{seed}")
        for kind, rows in _lora_shares(heads, plan, seed, n_questions, drawn, draws).items():
            found.setdefault((kind, LORA), []).append(rows)
    say("evaluating baselines")
    team = Team.load(heads[f"{DEFAULT_FORM}-{seeds[0]}"], MEMBERS)
    for kind in KINDS:
        others = [other_ways(team, drawn[kind, d]) for d in draws]
        for way in WAYS[1:]:
            found[kind, way] = [[_share(o[way]) for o in others]]
    names = dict.fromkeys(way for _, way in found)
    return LatentReport(
        n=n,
        training_seeds=tuple(seeds),
        draws=draws,
        cells={kind: {w: Cells(shares=np.array(found[kind, w])) for w in names} for kind in KINDS},
        n_parameters=parameters,
        seconds=seconds,
    )


def _plans(plan: TrainingPlan, forms: Sequence[FormName], seed: int) -> dict[str, TrainingPlan]:
    plans = {f"{form}-{seed}": replace(plan, form=form, seed=seed) for form in forms}
    for control in CONTROLS:
        plans[f"{control}-{seed}"] = replace(plan, form=DEFAULT_FORM, seed=seed, control=control)
    return plans


def _lora_shares(
    heads: Mapping[str, Path],
    plan: TrainingPlan,
    seed: int,
    n_questions: int,
    drawn: Mapping[tuple[Kind, int], Sequence[LatentQuestion]],
    draws: Sequence[int],
) -> dict[Kind, list[float]]:
    team = Team.load(heads[f"{DEFAULT_FORM}-{seed}"], MEMBERS)
    shown = training_questions(n_questions, seed=seed)
    n_steps = plan.teach_steps // 4 + plan.joint_steps
    adapters = train_adapters(team, shown, replace(plan, seed=seed), n_steps=n_steps)
    shares: dict[Kind, list[float]] = {}
    for kind in KINDS:
        for draw in draws:
            questions = drawn[kind, draw]
            said = answers_with(team, adapters, questions)
            right = [s == q.answer for s, q in zip(said, questions, strict=True)]
            shares.setdefault(kind, []).append(_share(np.array(right)))
    return shares


def _share(right: np.ndarray) -> float:
    return float(right.mean())
