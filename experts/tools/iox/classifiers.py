"""The six classifiers as they ship: small networks, evaluated with numpy.

Training (``training``) fits them with scikit-learn; what is stored is arrays, one npz for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from experts.tools.iox.attributes import ATTRIBUTES, attribute
from experts.tools.iox.channels import Channel
from experts.tools.iox.features import features

MODELS_FILE = Path(str(files("experts.tools.iox").joinpath("classifiers.npz")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a classifier says of a channel."""

    label: str
    probability: float
    """Calibrated: of channels that it says this of, so many are so."""
    strangeness: float
    """How far the channel is from those of the training: root mean square of its standardised
    features. About 1 for channels of their kind; above 3 the probability means little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    """Standardised features through one hidden layer of rectified units, tempered."""

    name: str
    mean: np.ndarray
    scale: np.ndarray
    weights: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]
    temperature: float

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(n, n_labels), for features (n, n_features)."""
        x = (rows - self.mean) / self.scale
        hidden = np.maximum(np.clip(x, -5, 5) @ self.weights[0] + self.biases[0], 0.0)
        logits = (hidden @ self.weights[1] + self.biases[1]) / self.temperature
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        chances: np.ndarray = likely / likely.sum(axis=1, keepdims=True)
        return chances

    def judge(self, channel: Channel) -> Judgement:
        row = features(channel)
        chances = self.probabilities(row[None])[0]
        best = int(chances.argmax())
        return Judgement(
            label=attribute(self.name).labels[best],
            probability=float(chances[best]),
            strangeness=float(np.sqrt(np.mean(((row - self.mean) / self.scale) ** 2))),
        )


@cache
def load_classifiers(path: Path = MODELS_FILE) -> Mapping[str, Classifier]:
    """By name of their attribute."""
    with np.load(path, allow_pickle=False) as arrays:
        return {
            a.name: Classifier(
                name=a.name,
                mean=arrays["mean"],
                scale=arrays["scale"],
                weights=(arrays[f"{a.name}.w0"], arrays[f"{a.name}.w1"]),
                biases=(arrays[f"{a.name}.b0"], arrays[f"{a.name}.b1"]),
                temperature=float(arrays[f"{a.name}.temperature"]),
            )
            for a in ATTRIBUTES
        }


def save_classifiers(classifiers: Mapping[str, Classifier], path: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    for name, c in classifiers.items():
        arrays |= {"mean": c.mean, "scale": c.scale}
        for i in range(2):
            arrays |= {f"{name}.w{i}": c.weights[i], f"{name}.b{i}": c.biases[i]}
        arrays[f"{name}.temperature"] = np.array(c.temperature, np.float32)
    np.savez(path, allow_pickle=False, **arrays)
