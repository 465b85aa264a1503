"""Train a head: teaching, routing, joint; with checkpoints that a run goes on from.

Batches are drawn by seed and step, so a run that was stopped and goes on sees what it would have
seen. Members are frozen, and their checksums are compared before and after.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experts.errors import ConclaveError
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.checkpoint import Checkpoint, State
from experts.latent.training.examples import Example, Examples
from experts.latent.training.joint import JointTraining
from experts.latent.training.optimizing import adam, schedule
from experts.latent.training.route_search import RouteSearch
from experts.latent.training.routing import RouterFitting
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
    checkpoint = Checkpoint(folder)
    made_of = digest_of(questions, before)
    at = checkpoint.load(team.head, plan, made_of)
    run = _Run(team, plan, at, report, started)
    run.steps("teach", plan.teach_steps, run.form_optimizer(plan.teach_rate),
              lambda step: teaching_loss(team, examples, plan, step))  # fmt: skip
    routes = run.routes(examples)
    fitting = RouterFitting(team.head.router, examples, routes, plan)
    if run.begins("route"):
        fitting.begin()
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
        "made_of": made_of,
        "n_parameters": team.n_parameters,
        "seconds": round(at.seconds + time.perf_counter() - started, 1),
        "loss": None if math.isnan(last) else round(last, 4),
        "routes": _counted(routes),
        "member_checksums": before,
    }
    team.save(folder, trained)
    checkpoint.remove()
    return trained


def digest_of(questions: Sequence[Example], checksums: Mapping[str, str]) -> str:
    """16 hex digits of what a head is trained with: questions, and members' checksums."""
    digest = blake2b(json.dumps(checksums).encode(), digest_size=8)
    for q in questions:
        digest.update(json.dumps([q.question, q.answer]).encode())
    return digest.hexdigest()


class _Run:
    """The loop, its optimisers and its checkpoints."""

    def __init__(
        self, team: Team, plan: TrainingPlan, at: State, report: Report, started: float
    ) -> None:
        self._team, self._plan, self._report = team, plan, report
        self._at, self._started = at, started

    def begins(self, phase: str) -> bool:
        """Whether nothing of a phase was done before this run."""
        return self._at.is_before(phase)

    def form_optimizer(self, rate: float) -> torch.optim.Optimizer:
        return adam([{"params": list(self._team.form.parameters()), "lr": rate}])

    def router_optimizer(self) -> torch.optim.Optimizer:
        params = list(self._team.head.router.parameters())
        return adam([{"params": params, "lr": self._plan.router_rate}])

    def joint_optimizer(self) -> torch.optim.Optimizer:
        head, plan = self._team.head, self._plan
        return adam(
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
                group["lr"] = rate * schedule(step, n_steps)
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
        """The best route of a sample of the questions; from the checkpoint where it is known."""
        if self._at.routes is not None:
            return self._at.routes
        search = RouteSearch(
            self._team,
            examples,
            self._plan,
            lambda done, total: self._tell("routes", done, total, float("nan")),
        )
        found = search.found()
        self._at.keep_routes(found)
        self._at.save("route", 0, self.router_optimizer())  # it was half of the work
        return found

    def _tell(self, phase: str, step: int, n_steps: int, loss: float) -> None:
        elapsed = time.perf_counter() - self._started
        self._report(
            Progress(phase=phase, step=step, n_steps=n_steps, loss=loss, elapsed_s=elapsed)
        )


def _counted(routes: Mapping[int, Route]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for route in routes.values():
        name = " < ".join((route.primary, *route.peers))
        counts[name] = counts.get(name, 0) + 1
    return counts
