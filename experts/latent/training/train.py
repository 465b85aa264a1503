"""Train a head: teaching, routing, joint; with checkpoints that a run goes on from.

Batches are drawn by seed and step, so a run that was stopped and goes on sees what it would have
seen. Members are frozen, and their checksums are compared before and after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from experts.errors import ConclaveError
from experts.latent.net.router import Route, Router
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.checkpoint import Checkpoint
from experts.latent.training.examples import Example, Examples
from experts.latent.training.joint import JointTraining
from experts.latent.training.routing import (
    Best,
    RouterFitting,
    all_routes,
    likeliest_routes,
    try_routes,
)
from experts.latent.training.teaching import teaching_loss

_REPORT_EVERY = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands."""

    phase: str
    step: int
    n_steps: int
    loss: float
    elapsed_s: float


Report = Callable[[Progress], None]


def train(
    team: Team,
    questions: Sequence[Example],
    plan: TrainingPlan,
    folder: Path,
    *,
    report: Report = lambda progress: None,
) -> dict[str, Any]:
    """Train the team's head and save it in ``folder``; what was done, as written in its card.

    A checkpoint of the same plan in the folder is gone on from. Raises ConclaveError where a
    member's weights have changed.
    """
    started = time.perf_counter()
    before = {name: m.checksum() for name, m in team.members.items()}
    examples = Examples(team.members, questions, plan.n_slots)
    examples.show(plan.control, seed=plan.seed)
    run = _Run(team, plan, Checkpoint(folder), report, started)
    run.steps("teach", plan.teach_steps, run.form_optimizer(plan.teach_rate),
              lambda step: teaching_loss(team, examples, plan, step))  # fmt: skip
    routes = run.routes(examples)
    router = team.head.router
    if run.begins("route"):
        router.open()
    fitting = RouterFitting(router, examples, routes, plan)
    run.steps("route", plan.route_steps, run.router_optimizer(), fitting.loss)
    joint = JointTraining(team, examples, plan, routes)
    last = run.steps("joint", plan.joint_steps, run.joint_optimizer(), joint.loss)
    team.head.eval()
    for name, member in team.members.items():
        if member.checksum() != before[name]:
            raise ConclaveError(f"{name} was to stay frozen, and its weights have changed.")
    trained = {
        **asdict(plan),
        "n_questions": len(questions),
        "n_parameters": team.n_parameters,
        "seconds": round(time.perf_counter() - started, 1),
        "loss": round(last, 4),
        "routes": _counted(routes),
        "member_checksums": before,
    }
    team.save(folder, trained)
    run.checkpoint.remove()
    return trained


class _Run:
    """The loop, its optimisers and its checkpoints."""

    def __init__(
        self, team: Team, plan: TrainingPlan, checkpoint: Checkpoint, report: Report, started: float
    ) -> None:
        self._team, self._plan, self._report = team, plan, report
        self.checkpoint, self._started = checkpoint, started
        self._at = checkpoint.load(team.head, plan)

    def begins(self, phase: str) -> bool:
        """Whether nothing of a phase was done before this run."""
        return self._at.is_before(phase)

    def form_optimizer(self, rate: float) -> torch.optim.Optimizer:
        return _adam([{"params": list(self._team.form.parameters()), "lr": rate}])

    def router_optimizer(self) -> torch.optim.Optimizer:
        params = list(self._team.head.router.parameters())
        return _adam([{"params": params, "lr": self._plan.router_rate}])

    def joint_optimizer(self) -> torch.optim.Optimizer:
        head, plan = self._team.head, self._plan
        return _adam(
            [
                {"params": list(head.form.parameters()), "lr": plan.joint_rate},
                {"params": list(head.router.parameters()), "lr": plan.joint_rate},
            ]
        )

    def steps(
        self,
        phase: str,
        n_steps: int,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[int], torch.Tensor],
    ) -> float:
        """Run a phase, or what is left of it; the last loss."""
        start = self._at.begin(phase, n_steps, optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        self._team.head.train()
        loss = torch.tensor(float("nan"))
        for step in range(start, n_steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * _schedule(step, n_steps)
            loss = loss_of(step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._team.head.parameters(), 1.0)
            optimizer.step()
            if step % _REPORT_EVERY == 0 or step == n_steps - 1:
                self._tell(phase, step + 1, n_steps, loss.item())
            if (step + 1) % self._plan.checkpoint_every == 0:
                self._at.save(phase, step + 1, optimizer)
        return loss.item()

    def routes(self, examples: Examples) -> Mapping[int, Route]:
        """The best route of a sample of the questions; from the checkpoint where it is known. The
        router that helped to find them is thrown away."""
        if self._at.routes is not None:
            return self._at.routes
        team, plan = self._team, self._plan
        order = list(range(len(examples)))
        Random(f"routes/{plan.seed}").shuffle(order)
        first = order[: plan.route_questions]
        more = order[len(first) : len(first) + plan.likely_questions]
        team.head.eval()
        best: Best = {}
        everywhere = dict.fromkeys(all_routes(team.card.names, team.card.top_k), first)
        self._try(examples, everywhere, best)
        if more:
            router = team.head.router
            untrained = {k: v.clone() for k, v in router.state_dict().items()}
            router.open()
            fit_router(router, examples, {row: r for row, (_, r) in best.items()}, plan)
            tries = likeliest_routes(team, examples, more, plan.likely_routes)
            router.load_state_dict(untrained)
            self._try(examples, tries, best)
        found = {row: route for row, (_, route) in best.items()}
        self._at.keep_routes(found)
        return found

    def _try(self, examples: Examples, tries: Mapping[Route, Sequence[int]], best: Best) -> None:
        tried = try_routes(self._team, examples, self._plan, tries, best)
        for n_tried, _ in enumerate(tried, start=1):
            self._tell("routes", n_tried, len(tries), float("nan"))

    def _tell(self, phase: str, step: int, n_steps: int, loss: float) -> None:
        elapsed = time.perf_counter() - self._started
        self._report(
            Progress(phase=phase, step=step, n_steps=n_steps, loss=loss, elapsed_s=elapsed)
        )


def fit_router(
    router: Router, examples: Examples, routes: Mapping[int, Route], plan: TrainingPlan
) -> None:
    """As the phase does, in one go and without a checkpoint."""
    fitting = RouterFitting(router, examples, routes, plan)
    optimizer = _adam([{"params": list(router.parameters()), "lr": plan.router_rate}])
    for step in range(plan.route_steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.router_rate * _schedule(step, plan.route_steps)
        optimizer.zero_grad()
        fitting.loss(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.98))


def _schedule(step: int, n_steps: int, warmup: int = 50) -> float:
    """Learning-rate factor in (0, 1]: linear warm-up, flat, linear decay over the second half."""
    return min(1.0, (step + 1) / warmup, (n_steps - step) / max(1, n_steps * 0.5))


def _counted(routes: Mapping[int, Route]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for route in routes.values():
        name = " < ".join((route.primary, *route.peers))
        counts[name] = counts.get(name, 0) + 1
    return counts
