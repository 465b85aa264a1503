"""The control that has no peers: as many trained parameters as a head, in low-rank adapters of the
primaries themselves (LoRA, Hu et al. 2021, arXiv 2106.09685), trained on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import torch
from torch import nn

from eval.latent.answering import answers
from experts.lab.composites.questions import LatentQuestion
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Example, Examples
from experts.latent.training.routing import token_losses

_SCALE = 2.0
_RATE = 2e-3


class Adapters(nn.Module):
    """A low-rank pair for every linear layer of a model's blocks."""

    def __init__(self, model: Any, rank: int) -> None:
        super().__init__()
        self._layers = [m for m in model.model.layers.modules() if isinstance(m, nn.Linear)]
        self.down = nn.ParameterList(
            nn.Parameter(torch.randn(rank, m.in_features) * m.in_features**-0.5)
            for m in self._layers
        )
        self.up = nn.ParameterList(
            nn.Parameter(torch.zeros(m.out_features, rank)) for m in self._layers
        )

    @contextmanager
    def on(self) -> Iterator[None]:
        """The model with its adapters, while it is open."""

        def adapting(i: int) -> Callable[..., torch.Tensor]:
            def adapt(
                module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor
            ) -> torch.Tensor:
                low = args[0] @ self.down[i].T
                adapted: torch.Tensor = out + _SCALE * low @ self.up[i].T
                return adapted

            return adapt

        hooks = [m.register_forward_hook(adapting(i)) for i, m in enumerate(self._layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def rank_for(model: Any, n_parameters: int) -> int:
    """The largest rank whose adapters have no more than so many parameters; at least 1."""
    layers = [m for m in model.model.layers.modules() if isinstance(m, nn.Linear)]
    return max(1, n_parameters // sum(m.in_features + m.out_features for m in layers))


def train_adapters(
    team: Team,
    questions: Sequence[LatentQuestion],
    plan: TrainingPlan,
    *,
    n_steps: int,
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, Adapters]:
    """Adapters by primary, each of as many parameters as the whole head, trained by the language
    loss on the questions that it answers last."""
    torch.manual_seed(plan.seed)
    found = {}
    for name in sorted({q.members[-1] for q in questions if len(q.members) > 1}):
        able = [q for q in questions if q.members[-1] == name]
        found[name] = _trained(team, name, able, plan, n_steps, tell)
    return found


def _trained(
    team: Team,
    name: str,
    questions: Sequence[LatentQuestion],
    plan: TrainingPlan,
    n_steps: int,
    tell: Callable[[int, float], None],
) -> Adapters:
    member = team.members[name]
    adapters = Adapters(member.model, rank_for(member.model, team.n_parameters))
    examples = Examples(
        {name: member}, [Example(q.text, q.answer) for q in questions], plan.n_slots
    )
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=_RATE, weight_decay=0.01)
    with adapters.on():
        for step in range(n_steps):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * min(1.0, (step + 1) / 50, 2 * (n_steps - step) / n_steps)
            rng = Random(f"lora/{plan.seed}/{step}")
            rows = [rng.randrange(len(questions)) for _ in range(plan.joint_rows)]
            loss = token_losses(team, examples, Route(name), rows)[0].mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            tell(step, loss.item())
    return adapters


def answers_with(
    team: Team, adapters: Mapping[str, Adapters], questions: Sequence[LatentQuestion]
) -> list[str]:
    """Each question is answered by the member of its last step, which is given: no router errs."""
    said: dict[int, str] = {}
    for name in {q.members[-1] for q in questions}:
        rows = [i for i, q in enumerate(questions) if q.members[-1] == name]
        texts = [questions[i].text for i in rows]
        if name not in adapters:
            found = answers(team, texts, [Route(name)] * len(rows))
        else:
            with adapters[name].on():
                found = answers(team, texts, [Route(name)] * len(rows))
        said |= dict(zip(rows, found, strict=True))
    return [said[i] for i in range(len(questions))]
