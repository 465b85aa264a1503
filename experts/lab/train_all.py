"""Train several bundled experts side by side, one process and one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experts.lab.recipe import ExpertRecipe
from experts.lab.train import Progress, TrainedRun, train_expert
from experts.side_by_side import side_by_side


def train_all(
    recipes: Sequence[ExpertRecipe],
    folder: Path,
    *,
    device: str = "cpu",
    n_jobs: int = 1,
    report: Callable[[str, Progress], None] = lambda name, progress: None,
) -> dict[str, TrainedRun]:
    """Train each recipe into ``folder/{name}``; runs by name, in the recipes' order.

    Long ones start first, so that the cores finish together. What a process raises is raised here.
    """
    by_length = sorted(recipes, key=lambda r: -r.n_chats * r.width)
    tasks = {r.name: (r, folder / r.name, device) for r in by_length}
    runs = side_by_side(_train_one, tasks, n_jobs=n_jobs, report=report)
    return {r.name: runs[r.name] for r in recipes}


def _train_one(
    task: tuple[ExpertRecipe, Path, str], report: Callable[[Progress], None]
) -> TrainedRun:
    recipe, folder, device = task
    return train_expert(recipe, folder, device=device, report=report)
