"""What is asked about a channel: the six properties, their classes and the borders between them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """One property of a channel."""

    name: str
    """Of the tool and of the model."""
    labels: tuple[str, ...]
    description: str
    """Of the tool, for those who choose among tools."""
    edges: tuple[float, ...] = ()
    """Borders between the labels, where they are ranges of one quantity."""

    def label_of(self, value: float) -> str:
        """The range that a value falls into.

        >>> attribute("snr_band").label_of(9.9)
        'low'
        """
        return self.labels[bisect_right(self.edges, value)]


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        name="line_of_sight",
        labels=("no", "yes"),
        description="Tells whether a wireless channel has a line of sight from transmitter to "
        "receiver.",
    ),
    Attribute(
        name="doppler_class",
        labels=("low", "medium", "high"),
        edges=(30.0, 150.0),  # Hz, of the maximum Doppler frequency
        description="Classifies the Doppler spread of a wireless channel: low, medium or high.",
    ),
    Attribute(
        name="fading_type",
        labels=("cascaded", "rayleigh", "rician"),
        description="Names the fading distribution of a wireless channel: Rayleigh, Rician or "
        "cascaded Rayleigh.",
    ),
    Attribute(
        name="delay_spread_class",
        labels=("short", "medium", "long"),
        edges=(30e-9, 80e-9),  # s, rms
        description="Classifies the rms delay spread of a wireless channel: short, medium or long.",
    ),
    Attribute(
        name="snr_band",
        labels=("low", "medium", "high"),
        edges=(10.0, 20.0),  # dB
        description="Gives the band of the signal-to-noise ratio of a wireless channel: low, "
        "medium or high.",
    ),
    Attribute(
        name="speed_class",
        labels=("walking", "urban", "fast"),
        edges=(3.0, 15.0),  # m/s
        description="Tells how fast the terminal of a wireless channel moves: walking, urban or "
        "fast.",
    ),
)


def attribute(name: str) -> Attribute:
    """Raises KeyError for a name that is none."""
    return {a.name: a for a in ATTRIBUTES}[name]
