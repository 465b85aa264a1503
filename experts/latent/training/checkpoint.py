"""What a stopped training run goes on from, in one file, so that it is whole or not there: tensors,
and the rest as JSON in its header."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experts.errors import DataError
from experts.latent.net.router import Route
from experts.latent.plan import TrainingPlan

_FILE, _TOLD = "checkpoint.safetensors", "told"
_PHASES = ("teach", "route", "joint")


class Checkpoint:
    """In the folder that the head will be in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, head: nn.Module, plan: TrainingPlan, made_of: str) -> State:
        """Where the run stands; puts the weights into the head. made_of: a digest of what it is
        trained with. Raises DataError for a checkpoint of another plan, or made of something else,
        since going on from it would be neither of the two, and for a broken one."""
        state = State(self._folder, head, plan, made_of)
        path = self._folder / _FILE
        if not path.is_file():
            return state
        told, tensors = _read(path)
        if (told["plan"], told["made_of"]) != (asdict(plan), made_of):
            is_planned = told["plan"] == asdict(plan)
            other = "other questions or other models" if is_planned else "another plan"
            raise DataError(
                f"{path} is the checkpoint of {other}. Delete it, or name another folder: --out."
            )
        weights = {k[5:]: v for k, v in tensors.items() if k.startswith("head.")}
        head.load_state_dict(weights)
        moments = {k[5:]: v for k, v in tensors.items() if k.startswith("adam.")}
        state.phase, state.step, state.moments = told["phase"], told["step"], moments
        state.seconds = told["seconds"]
        if told["routes"] is not None:
            state.routes = {int(k): Route(r[0], tuple(r[1:])) for k, r in told["routes"].items()}
        return state

    def remove(self) -> None:
        """When the head is saved."""
        (self._folder / _FILE).unlink(missing_ok=True)


class State:
    """A run's place: phase, step, the optimiser's moments, and the routes once they are known."""

    def __init__(self, folder: Path, head: nn.Module, plan: TrainingPlan, made_of: str) -> None:
        self._folder, self._head, self._plan, self._made_of = folder, head, plan, made_of
        self.phase, self.step = _PHASES[0], 0
        self.moments: dict[str, torch.Tensor] = {}
        self.routes: Mapping[int, Route] | None = None
        self.seconds = 0.0
        """Of processes before this one."""
        self._began = time.perf_counter()

    def begin(self, phase: str, n_steps: int, optimizer: torch.optim.Optimizer) -> int:
        """The first step of a phase that is still to be done; ``n_steps`` where none is."""
        if _PHASES.index(phase) < _PHASES.index(self.phase):
            return n_steps
        if phase != self.phase or not self.step:
            return 0
        _restore(optimizer, self.moments)
        return self.step

    def is_before(self, phase: str) -> bool:
        """Whether nothing of a phase had been done."""
        return (_PHASES.index(self.phase), self.step) <= (_PHASES.index(phase), 0)

    def keep_routes(self, routes: Mapping[int, Route]) -> None:
        self.routes = routes

    def save(self, phase: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Whole or not at all."""
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"head.{k}": v.contiguous() for k, v in self._head.state_dict().items()}
        tensors |= {f"adam.{k}": v for k, v in _moments(optimizer).items()}
        known = (self.routes or {}).items()
        routes = {str(k): [r.primary, *r.peers] for k, r in known} if self.routes else None
        told: dict[str, Any] = {
            "plan": asdict(self._plan), "made_of": self._made_of, "phase": phase, "step": step,
            "routes": routes, "seconds": self.seconds + time.perf_counter() - self._began,
        }  # fmt: skip
        new = self._folder / f"{_FILE}.new"
        save_file(tensors, new, metadata={_TOLD: json.dumps(told)})
        new.replace(self._folder / _FILE)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What it says, and its tensors. Raises DataError for a broken file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads(file.metadata()[_TOLD])
            return told, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{path} cannot be gone on from: {error}. Delete it to begin anew."
        ) from None


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    found = {}
    for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in optimizer.state.get(p, {}).items():
            found[f"{i}.{name}"] = value.detach().clone()
    return found


def _restore(optimizer: torch.optim.Optimizer, moments: Mapping[str, torch.Tensor]) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in moments.items():
        i, name = key.split(".", 1)
        optimizer.state[params[int(i)]][name] = value
