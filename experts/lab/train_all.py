"""Train several bundled experts side by side, one process and one thread each.

Two processes of one thread train about a third faster than one of two threads: the matrices are too
small to share. It also makes a run independent of the number of cores, to the last bit.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from queue import Empty, Queue

from experts.lab.recipe import ExpertRecipe
from experts.lab.train import Progress, TrainedRun, train_expert

_POLL_S = 0.5

Messages = Queue[tuple[str, Progress]]


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
    context = multiprocessing.get_context("spawn")
    by_length = sorted(recipes, key=lambda r: -r.n_chats * r.width)
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(min(n_jobs, len(recipes)), mp_context=context) as pool,
    ):
        messages: Messages = manager.Queue()
        runs: dict[str, Future[TrainedRun]] = {
            r.name: pool.submit(_train_one, r, folder / r.name, device, messages) for r in by_length
        }
        while not all(run.done() for run in runs.values()):
            _pass_on(messages, report, _POLL_S)
        while _pass_on(messages, report, 0.0):
            pass
        return {r.name: runs[r.name].result() for r in recipes}


def _pass_on(messages: Messages, report: Callable[[str, Progress], None], wait_s: float) -> bool:
    try:
        report(*messages.get(timeout=wait_s) if wait_s else messages.get_nowait())
    except Empty:
        return False
    return True


def _train_one(recipe: ExpertRecipe, folder: Path, device: str, messages: Messages) -> TrainedRun:
    import torch

    torch.set_num_threads(1)
    return train_expert(
        recipe, folder, device=device, report=lambda p: messages.put((recipe.name, p))
    )
