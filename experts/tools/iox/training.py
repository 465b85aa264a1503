"""Training of the classifiers on simulated channels: scikit-learn in, arrays out.

Fitted on seeds of train, with the temperature of the probabilities fitted on seeds of val; seeds of
test are for ``conclave eval iox`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from experts.tools.iox.attributes import ATTRIBUTES, Attribute
from experts.tools.iox.channels import VAL_SEEDS, simulate
from experts.tools.iox.classifiers import Classifier
from experts.tools.iox.features import features

_HIDDEN = 24
_PENALTY = 0.3
_TEMPERATURES = np.geomspace(0.4, 4.0, 93)


def measured(
    seeds: range, on_channel: Callable[[int], None] = lambda n: None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features (n, n_features) of the channels of these seeds, and the true label of each
    attribute as its index (n,)."""
    rows, truths = [], []
    for n, seed in enumerate(seeds):
        channel, scenario = simulate(seed)
        rows.append(features(channel))
        truths.append(scenario.labels)
        on_channel(n + 1)
    return np.array(rows), {
        a.name: np.array([a.labels.index(t[a.name]) for t in truths]) for a in ATTRIBUTES
    }


def train_classifiers(
    *,
    n_train: int = 6000,
    n_val: int = 1500,
    seed: int = 0,
    on_channel: Callable[[int], None] = lambda n: None,
) -> dict[str, Classifier]:
    """All six. The same numbers give the same classifiers on the same machine."""
    rows, truth = measured(range(n_train), on_channel)
    val_rows, val_truth = measured(
        range(VAL_SEEDS, VAL_SEEDS + n_val), lambda n: on_channel(n_train + n)
    )
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    made = {}
    for a in ATTRIBUTES:
        fitted = _fit(a, rows, truth[a.name], mean, scale, seed)
        made[a.name] = _tempered(fitted, val_rows, val_truth[a.name])
    return made


def _fit(
    a: Attribute,
    rows: np.ndarray,
    truth: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    seed: int,
) -> Classifier:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x = np.clip((rows - mean) / scale, -5, 5)
    network = MLPClassifier(
        hidden_layer_sizes=(_HIDDEN,), alpha=_PENALTY, max_iter=60, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty passes are what is wanted
        network.fit(x, truth)
    (w0, w1), (b0, b1) = network.coefs_, network.intercepts_
    if len(a.labels) == 2:  # scikit-learn has one logistic output then; two logits are the same
        w1, b1 = np.hstack([np.zeros_like(w1), w1]), np.array([0.0, b1[0]])
    return Classifier(
        name=a.name,
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=(w0.astype(np.float32), w1.astype(np.float32)),
        biases=(b0.astype(np.float32), b1.astype(np.float32)),
        temperature=1.0,
    )


def _tempered(classifier: Classifier, rows: np.ndarray, truth: np.ndarray) -> Classifier:
    """With the temperature that makes the truth likeliest. Source: Guo et al. 2017,
    arXiv:1706.04599, section 4.2."""

    def log_loss(temperature: float) -> float:
        chances = replace(classifier, temperature=temperature).probabilities(rows)
        return float(-np.log(chances[np.arange(len(truth)), truth] + 1e-12).mean())

    return replace(classifier, temperature=float(min(_TEMPERATURES, key=log_loss)))
