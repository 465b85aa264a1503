"""Which of several options is the right one, or none of them: a small learned model of choice.

A conditional logit whose utility is linear plus a small network: each option is scored from its
features and those of its group (the question), "none of them" from the group's alone, and a softmax
over a group gives the probabilities (McFadden 1974; the network as in DeepSets: options are scored
one by one, so that their order and number do not matter). An ensemble over seeds is averaged.

Fitted with torch, predicted with numpy, stored as plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from experts.errors import DataError, NotFitted

_LARGEST = 6.0
"""Standardised features are clipped here: one odd text must not decide everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Options in groups. Rows are sorted by group."""

    group: np.ndarray
    """(n_options,) row of the group, rising, in [0, n_groups)."""
    features: np.ndarray
    """(n_options, n_features)."""
    context: np.ndarray
    """(n_groups, n_context) features that all options of a group share."""


class ChoiceModel:
    """See the module. ``penalty`` is the weight decay (AdamW) of all weights."""

    def __init__(
        self,
        *,
        n_hidden: int = 16,
        n_members: int = 3,
        n_epochs: int = 15,
        penalty: float = 1.0,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ) -> None:
        self.n_hidden, self.n_members, self.n_epochs = n_hidden, n_members, n_epochs
        self.penalty, self.learning_rate, self.seed = penalty, learning_rate, seed

    def fit(self, options: Options, right: np.ndarray) -> Self:
        """right: (n_options,) bool; a group without a right option counts as "none of them".

        Raises DataError when there is nothing to learn from.
        """
        if not len(options.group):
            raise DataError("There are no options to learn from.")
        self.centre_, self.scale_ = _moments(options.features)
        self.context_centre_, self.context_scale_ = _moments(options.context)
        self.members_ = [
            _train(self, *self._standardised(options), options.group, right, self.seed + i)
            for i in range(self.n_members)
        ]
        self.ensemble_ = _Ensemble.of(self.members_)
        return self

    def predict(self, options: Options) -> tuple[np.ndarray, np.ndarray]:
        """P of each option (n_options,), and of "none" for each group (n_groups,).

        Raises NotFitted before ``fit``.
        """
        rows, context = self._standardised(options)
        p, p_none = np.zeros(len(rows)), np.zeros(len(context))
        utilities, nones = self.ensemble_.utilities(rows, context, options.group)
        for scores, none in zip(utilities.T, nones.T, strict=True):
            top = none.copy()
            np.maximum.at(top, options.group, scores)
            e, e_none = np.exp(scores - top[options.group]), np.exp(none - top)
            total = np.bincount(options.group, e, len(context)) + e_none
            p += e / total[options.group] / len(self.members_)
            p_none += e_none / total / len(self.members_)
        return p, p_none

    def predict_group(self, features: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, float]:
        """As ``predict`` of one group alone, which strategies wait for: P of each option
        (n_options,), and of "none". features: (n_options, n_features); context: (n_context,).

        Raises NotFitted before ``fit``.
        """
        options = Options(group=_ONE_GROUP, features=features, context=context[None, :])
        rows, shared = self._standardised(options)
        utilities, nones = self.ensemble_.utilities(rows, shared, _ONE_GROUP)
        top = np.maximum(utilities.max(axis=0), nones[0])
        e, e_none = np.exp(utilities - top), np.exp(nones[0] - top)
        share = 1 / (e.sum(axis=0) + e_none) / len(self.members_)
        return e @ share, float(e_none @ share)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name."""
        arrays = {
            name: getattr(self, f"{name}_")
            for name in ("centre", "scale", "context_centre", "context_scale")
        }
        for i, member in enumerate(self.members_):
            arrays |= {f"{i}.{name}": array for name, array in member.items()}
        return arrays

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        model = cls()
        model.centre_, model.scale_ = state["centre"], state["scale"]
        model.context_centre_ = state["context_centre"]
        model.context_scale_ = state["context_scale"]
        members: dict[str, dict[str, np.ndarray]] = {}
        for key, array in state.items():
            number, _, name = key.partition(".")
            if name:
                members.setdefault(number, {})[name] = array
        model.members_ = [members[k] for k in sorted(members, key=int)]
        model.ensemble_ = _Ensemble.of(model.members_)
        return model

    def _standardised(self, options: Options) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self, "centre_"):
            raise NotFitted("ChoiceModel.predict was called before fit.")

        def clipped(values: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
            # Of a few numbers np.clip takes five times as long.
            z = np.maximum((values - centre) / scale, -_LARGEST)
            result: np.ndarray = np.minimum(z, _LARGEST)
            return result

        return (
            clipped(options.features, self.centre_, self.scale_),
            clipped(options.context, self.context_centre_, self.context_scale_),
        )


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and sd that is 1 for a constant."""
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)


Member = dict[str, np.ndarray]


_ONE_GROUP = np.array([0])
"""The group of every option, where there is one group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ensemble:
    """All members side by side, as one network that gives each one's utilities: a strategy waits
    for a handful of options, and then the number of operations is what takes time."""

    linear: np.ndarray
    """(n_features, n_members)."""
    first: np.ndarray
    """(n_features, n_members x n_hidden), as the next."""
    first_context: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    """(n_members x n_hidden, n_members x n_hidden): a member's block has its own weights, all other
    weights are 0."""
    second_bias: np.ndarray
    out: np.ndarray
    """(n_members x n_hidden, n_members), in blocks."""
    none_linear: np.ndarray
    """(n_context, n_members)."""
    none_first: np.ndarray
    none_first_bias: np.ndarray
    none_out: np.ndarray
    none_bias: np.ndarray

    @classmethod
    def of(cls, members: Sequence[Member]) -> Self:
        def beside(name: str) -> np.ndarray:
            return np.concatenate([member[name] for member in members], axis=-1)

        def blocks(name: str) -> np.ndarray:
            parts = [member[name].reshape(len(member[name]), -1) for member in members]
            result = np.zeros((sum(map(len, parts)), sum(part.shape[1] for part in parts)))
            row = column = 0
            for part in parts:
                result[row : row + len(part), column : column + part.shape[1]] = part
                row, column = row + len(part), column + part.shape[1]
            return result

        return cls(
            linear=np.column_stack([member["linear"] for member in members]),
            first=beside("first"),
            first_context=beside("first_context"),
            first_bias=beside("first_bias"),
            second=blocks("second"),
            second_bias=beside("second_bias"),
            out=blocks("out"),
            none_linear=np.column_stack([member["none_linear"] for member in members]),
            none_first=beside("none_first"),
            none_first_bias=beside("none_first_bias"),
            none_out=blocks("none_out"),
            none_bias=np.array([float(member["none_bias"]) for member in members]),
        )

    def utilities(
        self, rows: np.ndarray, context: np.ndarray, group: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the options (n_options, n_members), and of "none" (n_groups, n_members)."""
        # The first layer is applied to a group's features once, not once an option.
        shared = context @ self.first_context + self.first_bias
        hidden = np.maximum(rows @ self.first + shared[group], 0)
        hidden = np.maximum(hidden @ self.second + self.second_bias, 0)
        scores = rows @ self.linear + hidden @ self.out
        hidden = np.maximum(context @ self.none_first + self.none_first_bias, 0)
        none = context @ self.none_linear + hidden @ self.none_out + self.none_bias
        return scores, none


_BATCH = 512
"""Groups in a step."""
_DROPPED = 0.1


def _train(
    model: ChoiceModel,
    rows: np.ndarray,
    context: np.ndarray,
    group: np.ndarray,
    right: np.ndarray,
    seed: int,
) -> Member:
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.tensor(array, dtype=torch.float32, requires_grad=True)
        for name, array in _start(rows.shape[1], context.shape[1], model.n_hidden, seed).items()
    }
    steps = model.n_epochs * -(-len(context) // _BATCH)
    optimizer = torch.optim.AdamW(
        weights.values(), lr=model.learning_rate, weight_decay=model.penalty, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2 * model.learning_rate, total_steps=steps
    )
    bounds = np.searchsorted(group, np.arange(len(context) + 1))
    x = torch.tensor(rows, dtype=torch.float32)
    c = torch.tensor(context, dtype=torch.float32)
    y = torch.tensor(right, dtype=torch.float32)
    for _ in range(model.n_epochs):
        order = torch.randperm(len(context), generator=generator).numpy()
        for start in range(0, len(order), _BATCH):
            chosen = np.sort(order[start : start + _BATCH])
            sizes = bounds[chosen + 1] - bounds[chosen]
            here = torch.tensor(_ranges(bounds[chosen], sizes))
            of = torch.tensor(np.repeat(np.arange(len(chosen)), sizes))
            loss = _loss(weights, x[here], c[torch.tensor(chosen)], of, y[here], generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {name: w.detach().numpy().astype(np.float64) for name, w in weights.items()}


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each (start, size), one after the other."""
    ends = np.cumsum(sizes)
    result: np.ndarray = np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)
    return result


def _start(n_rows: int, n_context: int, n_hidden: int, seed: int) -> Member:
    """Networks that say nothing yet: the model starts as a linear one."""
    rng = np.random.default_rng(seed)

    def layer(n_in: int, n_out: int, fan_in: int) -> np.ndarray:
        bound = 1 / np.sqrt(max(1, fan_in))  # options may have no features of their group
        return rng.uniform(-bound, bound, (n_in, n_out))

    return {
        "linear": np.zeros(n_rows),
        "first": layer(n_rows, n_hidden, n_rows + n_context),
        "first_context": layer(n_context, n_hidden, n_rows + n_context),
        "first_bias": np.zeros(n_hidden),
        "second": layer(n_hidden, n_hidden, n_hidden),
        "second_bias": np.zeros(n_hidden),
        "out": np.zeros(n_hidden),
        "none_linear": np.zeros(n_context),
        "none_bias": np.zeros(()),
        "none_first": layer(n_context, n_hidden, n_context),
        "none_first_bias": np.zeros(n_hidden),
        "none_out": np.zeros(n_hidden),
    }


def _loss(
    w: Mapping[str, Any], rows: Any, context: Any, of: Any, right: Any, generator: Any
) -> Any:
    """Mean -log P(one of the right options, or none where there is none)."""
    import torch

    def dropped(hidden: Any) -> Any:
        keep = torch.rand(hidden.shape, generator=generator) >= _DROPPED
        return hidden * keep / (1 - _DROPPED)

    hidden = rows @ w["first"] + (context @ w["first_context"])[of] + w["first_bias"]
    hidden = torch.relu(dropped(torch.relu(hidden)) @ w["second"] + w["second_bias"])
    scores = rows @ w["linear"] + hidden @ w["out"]
    hidden = dropped(torch.relu(context @ w["none_first"] + w["none_first_bias"]))
    none = context @ w["none_linear"] + hidden @ w["none_out"] + w["none_bias"]
    top = none.detach().scatter_reduce(0, of, scores.detach(), "amax")
    e, e_none = torch.exp(scores - top[of]), torch.exp(none - top)
    zeros = torch.zeros_like(none)
    solved = zeros.index_add(0, of, right) > 0
    seen = torch.where(solved, zeros.index_add(0, of, e * right), e_none)
    return -torch.log(seen / e_none.index_add(0, of, e) + 1e-9).mean()
