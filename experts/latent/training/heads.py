"""Train several heads side by side; those that are there are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experts.errors import BadHead
from experts.latent.card import WEIGHTS_FILE, card_of, read_card
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Example
from experts.latent.training.train import Progress, digest_of
from experts.side_by_side import side_by_side


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One head to be trained."""

    name: str
    plan: TrainingPlan
    questions: Sequence[Example]
    folder: Path


Tell = Callable[[str, Progress], None]
_Task = tuple[Job, dict[str, Path], str]
"""With the members' folders, and the device."""


def train_heads(
    jobs: Sequence[Job],
    members: Mapping[str, Path],
    *,
    device: str = "cpu",
    n_jobs: int = 1,
    tell: Tell = lambda name, progress: None,
) -> dict[str, dict[str, Any]]:
    """How each was trained, by name. members: their folders, by name. A head that is there and was
    trained by the same plan with the same models is not trained again. What a process raises is
    raised here."""
    done = {job.name: found for job in jobs if (found := _trained(job, members)) is not None}
    left = [job for job in jobs if job.name not in done]
    if left:
        tasks = {job.name: (job, dict(members), device) for job in left}
        done |= side_by_side(_train_one, tasks, n_jobs=n_jobs, report=tell)
    return {job.name: done[job.name] for job in jobs}


def _trained(job: Job, members: Mapping[str, Path]) -> dict[str, Any] | None:
    if not (job.folder / WEIGHTS_FILE).is_file():
        return None
    try:
        found = read_card(job.folder)
    except BadHead:  # somebody was killed between the two files
        return None
    wanted = card_of(
        job.plan.form, members, n_slots=job.plan.n_slots, top_k=job.plan.top_k, **job.plan.sizes
    )
    told = {key: found.trained.get(key) for key in asdict(job.plan)}
    same = found.members == wanted.members and told == asdict(job.plan)
    made_of = digest_of(job.questions, found.trained.get("member_checksums", {}))
    same = same and found.trained.get("made_of") == made_of
    return dict(found.trained) if same else None


def _train_one(task: _Task, report: Callable[[Progress], None]) -> dict[str, Any]:
    import torch

    from experts.latent.net.member import Member
    from experts.latent.net.team import Team
    from experts.latent.training.train import train

    job, members, device = task
    plan = job.plan
    card = card_of(plan.form, members, n_slots=plan.n_slots, top_k=plan.top_k, **plan.sizes)
    loaded = {name: Member.load(name, folder, device=device) for name, folder in members.items()}
    torch.manual_seed(plan.seed)
    return train(Team(card, loaded), job.questions, plan, job.folder, report=report)
