"""What a strategy asks between two waves: which answer leads, how likely it is right, who is next.

The answer model and the sequences of ``routers.composition``, in terms of completions and scores
instead of arrays, with what else they need: how long and how sure each arm usually is, and what
right options look like. Fitted from recorded answers, by folds where it is to be judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from experts.equality import canonical
from experts.errors import UserError
from experts.values import Arm, Completion
from routers.answers import AnswerModel, Vote
from routers.composition import (
    BlindAnswers,
    Composition,
    Isotonic,
    Recorded,
    Waves,
    fit_answer_model,
    fit_composition,
)
from routers.options import OptionPrior
from routers.scores import QueryScores

MAX_DEVIATIONS = 4.0
"""Effort and surprise are cut off here, in standard deviations."""
_LEAST_SD = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Usual:
    """How arms usually answer; arrays are (n_arms, 2): mean and sd."""

    effort: np.ndarray
    """Of log(1 + output tokens)."""
    surprise: np.ndarray
    """Of -log-probability; sd 0 where an arm tells none."""

    @classmethod
    def of(cls, output_tokens: np.ndarray, logprob: np.ndarray) -> Self:
        """Both (n_queries, n_arms), NaN where unknown."""
        return cls(effort=_moments(np.log1p(output_tokens)), surprise=_moments(-logprob))

    def deviations(
        self, arm: np.ndarray, output_tokens: np.ndarray, logprob: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Effort and surprise of answers, in sd of their arm; 0 where unknown."""
        return (
            _standardised(np.log1p(output_tokens), self.effort[arm]),
            _standardised(-logprob, self.surprise[arm]),
        )


def _moments(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    n = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(axis=0) / n
    variance = (np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / n
    return np.column_stack([mean, np.sqrt(variance)])


def _standardised(values: np.ndarray, moments: np.ndarray) -> np.ndarray:
    sd = moments[..., 1]
    told = ~np.isnan(values) & (sd > 0)
    z = (np.where(told, values, 0.0) - moments[..., 0]) / np.maximum(sd, _LEAST_SD)
    return np.where(told, np.clip(z, -MAX_DEVIATIONS, MAX_DEVIATIONS), 0.0)


def _in_sd(value: float, mean: float, sd: float) -> float:
    """As ``_standardised``, of one value that is known."""
    if sd <= 0:
        return 0.0
    return min(max((value - mean) / max(sd, _LEAST_SD), -MAX_DEVIATIONS), MAX_DEVIATIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leading:
    """The answer that leads after some completions."""

    completions: tuple[Completion, ...]
    """Those that gave it; empty when nobody answered."""
    p_right: float
    """As the answer model has it."""


Weighing = Callable[[Sequence[Completion]], Leading]
"""Which answer to a question leads after some completions."""


class Composing(Protocol):
    """What a strategy needs of a composer."""

    def weighing(self, question: str, scores: QueryScores) -> Weighing: ...

    def waves(self, sequence: int) -> list[tuple[Arm, ...]]: ...

    def goes_on(
        self, sequence: int, stage: int, p_right: float, fallback_price_usd: float
    ) -> bool: ...

    def believed(self, sequence: int, stage: int, p_right: float) -> float: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Composer:
    """See the module. Columns of all arrays are ``arms``."""

    arms: tuple[Arm, ...]
    model: AnswerModel
    prior: OptionPrior
    usual: Usual
    compositions: tuple[Composition, ...]

    def weighing(self, question: str, scores: QueryScores) -> Weighing:
        """What there is to know of the question is found once. Failed completions and arms without
        scores have no say."""
        columns = {arm: j for j, arm in enumerate(self.arms) if arm in scores}
        model = self.model.to_one([scores.p_of(arm, 0.5) for arm in self.arms])
        odds = self.prior.log_odds([question])[0]
        efforts, surprises = self.usual.effort.tolist(), self.usual.surprise.tolist()

        def leading(completions: Sequence[Completion]) -> Leading:
            heard = [c for c in completions if c.ok and c.call.arm in columns]
            keys = canonical([c.answer for c in heard])
            numbers: dict[str, int] = {}
            votes = []
            for c, key in zip(heard, keys, strict=True):
                j = columns[c.call.arm]
                logprob = c.logprob
                votes.append(
                    Vote(
                        arm=j,
                        answer=-1 if key is None else numbers.setdefault(key, len(numbers)),
                        effort=_in_sd(math.log1p(c.usage.output_tokens), *efforts[j]),
                        surprise=0.0 if logprob is None else _in_sd(-logprob, *surprises[j]),
                        form=form_of(key, odds),
                        own_odds=c.own_odds or 0.0,
                    )
                )
            leads, p_right = model.leading(votes)
            agreeing = (c for c, vote in zip(heard, votes, strict=True) if vote.answer == leads)
            return Leading(completions=tuple(agreeing), p_right=p_right)

        return leading

    def waves(self, sequence: int) -> list[tuple[Arm, ...]]:
        """The arms of each wave of a sequence. Raises UserError for one that was not fitted."""
        if not 0 <= sequence < len(self.compositions):
            raise UserError(
                f"compose: there is no sequence {sequence}; {len(self.compositions)} are fitted, "
                "counted from 0."
            )
        return [tuple(self.arms[j] for j in w) for w in self.compositions[sequence].waves]

    def goes_on(self, sequence: int, stage: int, p_right: float, fallback_price_usd: float) -> bool:
        """Whether to ask the wave after ``stage``."""
        composition = self.compositions[sequence]
        return bool(composition.goes_on(stage, np.float64(p_right), fallback_price_usd))

    def believed(self, sequence: int, stage: int, p_right: float) -> float:
        """How often answers that lead with this P after ``stage`` came true."""
        return float(self.compositions[sequence].beliefs[stage](np.float64(p_right)))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name; ``about`` has the rest."""
        arrays = {f"model.{k}": v for k, v in self.model.state().items()}
        arrays |= {f"prior.{k}": v for k, v in self.prior.state().items()}
        return arrays | {"effort": self.usual.effort, "surprise": self.usual.surprise}

    def about(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "arms": [str(a) for a in self.arms],
            "compositions": [
                {
                    "waves": [list(w) for w in c.waves],
                    "wave_cost_usd": list(c.wave_cost_usd),
                    "beliefs": [_written(b) for b in c.beliefs],
                    "gains": [[_written(g) for g in stage] for stage in c.gains],
                }
                for c in self.compositions
            ],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Self:
        def part(name: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}

        return cls(
            arms=tuple(Arm.parse(a) for a in about["arms"]),
            model=AnswerModel.from_state(part("model.")),
            prior=OptionPrior.from_state(part("prior.")),
            usual=Usual(effort=state["effort"], surprise=state["surprise"]),
            compositions=tuple(
                Composition(
                    waves=tuple(tuple(w) for w in c["waves"]),
                    wave_cost_usd=tuple(c["wave_cost_usd"]),
                    beliefs=tuple(_read(b) for b in c["beliefs"]),
                    gains=tuple(tuple(_read(g) for g in stage) for stage in c["gains"]),
                )
                for c in about["compositions"]
            ),
        )


def _written(curve: Isotonic) -> dict[str, list[float]]:
    return {"x": curve.x.round(6).tolist(), "y": curve.y.round(6).tolist()}


def _read(state: Mapping[str, Sequence[float]]) -> Isotonic:
    return Isotonic(np.array(state["x"]), np.array(state["y"]))


def form_of(answer: str | None, log_odds: np.ndarray) -> float:
    """How right an answer looks that is the letter of a listed option; 0 for any other.

    log_odds: (n_options,) from ``OptionPrior``.
    """
    if answer is None or len(answer) != 1 or not "A" <= answer <= "Z":
        return 0.0
    place = ord(answer) - ord("A")
    return float(log_odds[place]) if place < len(log_odds) else 0.0


def blind_composers(
    blind: BlindAnswers,
    sequences: Sequence[Waves],
    arms: tuple[Arm, ...],
    priors: Sequence[OptionPrior],
    usual: Usual,
) -> list[Composer]:
    """One a fold, each fitted without it: to judge what a composer brings.

    Which sequences are worth having was searched on all folds.
    """
    return [
        Composer(
            arms=arms,
            model=model,
            prior=prior,
            usual=usual,
            compositions=tuple(fit_composition(blind, w, without=k) for w in sequences),
        )
        for k, (model, prior) in enumerate(zip(blind.models, priors, strict=True))
    ]


def whole_composer(
    blind: BlindAnswers,
    recorded: Recorded,
    sequences: Sequence[Waves],
    arms: tuple[Arm, ...],
    prior: OptionPrior,
    usual: Usual,
) -> Composer:
    """The one to use, fitted on everything; gains are those of blind answers."""
    return Composer(
        arms=arms,
        model=fit_answer_model(recorded),
        prior=prior,
        usual=usual,
        compositions=tuple(fit_composition(blind, w) for w in sequences),
    )
