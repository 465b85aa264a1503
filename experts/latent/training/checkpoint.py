"""What a stopped training run goes on from: tensors as safetensors, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experts.errors import DataError
from experts.latent.net.router import Route
from experts.latent.plan import TrainingPlan

_TENSORS, _TOLD = "checkpoint.safetensors", "checkpoint.json"
_PHASES = ("teach", "route", "joint")


class Checkpoint:
    """In the folder that the head will be in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, head: nn.Module, plan: TrainingPlan) -> State:
        """Where the run stands; puts the weights into the head. Raises DataError for a checkpoint
        of another plan: going on from it would be neither of the two."""
        told_path = self._folder / _TOLD
        if not told_path.is_file():
            return State(self._folder, head, plan)
        from safetensors.torch import load_file

        told = json.loads(told_path.read_text(encoding="utf-8"))
        if told["plan"] != asdict(plan):
            raise DataError(
                f"{self._folder} holds the checkpoint of another plan. Name another folder with "
                "--out, or delete checkpoint.json and checkpoint.safetensors there."
            )
        tensors = load_file(self._folder / _TENSORS)
        weights = {k[5:]: v for k, v in tensors.items() if k.startswith("head.")}
        head.load_state_dict(weights)
        moments = {k[5:]: v for k, v in tensors.items() if k.startswith("adam.")}
        state = State(self._folder, head, plan)
        state.phase, state.step, state.moments = told["phase"], told["step"], moments
        if told["routes"] is not None:
            state.routes = {int(k): Route(r[0], tuple(r[1:])) for k, r in told["routes"].items()}
        return state

    def remove(self) -> None:
        """When the head is saved."""
        for name in (_TOLD, _TENSORS):
            (self._folder / name).unlink(missing_ok=True)


class State:
    """A run's place: phase, step, the optimiser's moments, and the routes once they are known."""

    def __init__(self, folder: Path, head: nn.Module, plan: TrainingPlan) -> None:
        self._folder, self._head, self._plan = folder, head, plan
        self.phase, self.step = _PHASES[0], 0
        self.moments: dict[str, torch.Tensor] = {}
        self.routes: Mapping[int, Route] | None = None

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
        """Whole or not at all: JSON names the tensors only once they are there."""
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"head.{k}": v.contiguous() for k, v in self._head.state_dict().items()}
        tensors |= {f"adam.{k}": v for k, v in _moments(optimizer).items()}
        save_file(tensors, self._folder / f"{_TENSORS}.new")
        known = (self.routes or {}).items()
        routes = {str(k): [r.primary, *r.peers] for k, r in known} if self.routes else None
        told: dict[str, Any] = {
            "plan": asdict(self._plan), "phase": phase, "step": step, "routes": routes
        }  # fmt: skip
        (self._folder / f"{_TOLD}.new").write_text(json.dumps(told), encoding="utf-8")
        for name in (_TENSORS, _TOLD):
            (self._folder / f"{name}.new").replace(self._folder / name)


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
