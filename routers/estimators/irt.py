"""Item response theory with items read off their text: difficulty and discrimination per question.

P(right) = sigmoid(bias_m + theta_m . a(x) - b(x)), where a(x) (what the question asks of an arm)
and b(x) (how hard it is) are linear in the embedding and theta_m is the arm's ability in a few
dimensions. Matrix factorisation with side information, in other words; it predicts for questions
that nobody has answered. Fitted by L-BFGS on the penalised likelihood, with exact gradients.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import arm_rates, require_fitted
from routers.outcomes import Features, Outcomes


class ItemResponse:
    """See the module. ``n_dims`` of ability; ``n_components`` of the embedding that are read."""

    def __init__(
        self, n_dims: int = 4, *, n_components: int = 48, penalty: float = 2.0, seed: int = 0
    ) -> None:
        self.n_dims, self.n_components, self.penalty = n_dims, n_components, penalty
        self.seed = seed

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        from scipy.optimize import minimize

        rates = arm_rates(outcomes.scores)
        self.centre_ = features.embeddings.mean(axis=0)
        centred = features.embeddings - self.centre_
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        kept = min(self.n_components, int((spread > 1e-6).sum()) or 1)
        self.axes_ = axes[:kept].T * (np.sqrt(len(centred)) / np.maximum(spread[:kept], 1e-6))
        x = centred @ self.axes_
        known = ~np.isnan(outcomes.scores)
        y = np.nan_to_num(outcomes.scores)
        shapes = self._shapes(kept, len(rates))
        rng = np.random.default_rng(self.seed)
        start = np.concatenate(
            [
                rng.normal(0, 0.1, shapes["axes"]).ravel(),
                rng.normal(0, 0.1, shapes["ability"]).ravel(),
                np.zeros(kept),
                np.log(rates / (1 - rates)),
            ]
        )
        result = minimize(
            _loss, start, args=(x, y, known, shapes, self.penalty), jac=True, method="L-BFGS-B",
            options={"maxiter": 200},
        )  # fmt: skip
        self.parts_ = _parts(result.x, shapes)
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "parts_")
        x = (features.embeddings - self.centre_) @ self.axes_
        return _sigmoid(_logits(x, self.parts_))

    def _shapes(self, n_components: int, n_arms: int) -> dict[str, tuple[int, ...]]:
        return {
            "axes": (n_components, self.n_dims),
            "ability": (n_arms, self.n_dims),
            "difficulty": (n_components,),
            "bias": (n_arms,),
        }


Parts = dict[str, np.ndarray]


def _parts(flat: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> Parts:
    parts, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        parts[name] = flat[start : start + size].reshape(shape)
        start += size
    return parts


def _logits(x: np.ndarray, p: Parts) -> np.ndarray:
    asked: np.ndarray = (x @ p["axes"]) @ p["ability"].T
    result: np.ndarray = asked - (x @ p["difficulty"])[:, None] + p["bias"]
    return result


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return result


def _loss(
    flat: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    shapes: dict[str, tuple[int, ...]],
    penalty: float,
) -> tuple[float, np.ndarray]:
    """Penalised negative log-likelihood of the known outcomes, and its gradient."""
    p = _parts(flat, shapes)
    logits = np.clip(_logits(x, p), -30, 30)
    loss = float(((np.logaddexp(0, logits) - y * logits) * known).sum())
    error = (_sigmoid(logits) - y) * known
    gradient = {
        "axes": x.T @ (error @ p["ability"]),
        "ability": error.T @ (x @ p["axes"]),
        "difficulty": -(x.T @ error.sum(axis=1)),
        "bias": error.sum(axis=0),
    }
    for name in ("axes", "ability", "difficulty"):
        loss += 0.5 * penalty * float((p[name] ** 2).sum())
        gradient[name] = gradient[name] + penalty * p[name]
    return loss, np.concatenate([gradient[name].ravel() for name in shapes])
