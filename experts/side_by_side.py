"""Work in several processes, each of one thread, with word of how it stands.

Two processes of one thread train tiny models about a third faster than one of two: the matrices are
too small to share. What each does then does not depend on the number of cores, to the last bit.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from queue import Empty, Queue
from typing import Any, TypeVar

_POLL_S = 0.5

Task = TypeVar("Task")
Done = TypeVar("Done")
Progress = TypeVar("Progress")
_Messages = Queue[tuple[str, Any]]


def side_by_side(
    work: Callable[[Task, Callable[[Progress], None]], Done],
    tasks: Mapping[str, Task],
    *,
    n_jobs: int,
    report: Callable[[str, Progress], None],
) -> dict[str, Done]:
    """What ``work`` made of each task, by name, begun in their order. ``work`` is a module's own
    function, and is given whom to tell how it stands. What a process raises is raised here."""
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(min(n_jobs, len(tasks)), mp_context=context) as pool,
    ):
        messages: _Messages = manager.Queue()
        runs: dict[str, Future[Done]] = {
            name: pool.submit(_run, work, name, task, messages) for name, task in tasks.items()
        }
        while not all(run.done() for run in runs.values()):
            _pass_on(messages, report, _POLL_S)
        while _pass_on(messages, report, 0.0):
            pass
        return {name: run.result() for name, run in runs.items()}


def _run(
    work: Callable[[Task, Callable[[Any], None]], Done], name: str, task: Task, messages: _Messages
) -> Done:
    import torch

    torch.set_num_threads(1)
    return work(task, lambda progress: messages.put((name, progress)))


def _pass_on(messages: _Messages, report: Callable[[str, Any], None], wait_s: float) -> bool:
    try:
        report(*messages.get(timeout=wait_s) if wait_s else messages.get_nowait())
    except Empty:
        return False
    return True
