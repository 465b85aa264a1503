"""Simulated radio channels: impulse responses over time, and what is true of them.

A channel is a tapped delay line whose taps fade by Clarke's model (a sum of sinusoids, arrival
angles uniform), one of them with a specular component where there is one, observed in white
Gaussian noise. Formulas: Clarke 1968 and Jakes 1974 for the Doppler spectrum; 3GPP TR 38.901,
7.5 steps 5 and 6 and 7.7.2, for delays, powers and the scaling to a delay spread. Ranges are
drawn as ``draw_scenario`` says.

Seeds decide everything. They belong to train, val and test by range, and so does the geometry:
carriers and numbers of paths of the test are none that training had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experts.tools.iox.attributes import attribute

N_TIMES, TIME_STEP_S = 256, 0.4e-3
"""102 ms in all; Doppler up to 1250 Hz can be seen."""
N_DELAYS, DELAY_STEP_S = 64, 25e-9
"""1.6 us in all, 40 MHz of bandwidth."""
SPEED_OF_LIGHT_MPS = 299_792_458.0
TEST_SEEDS, VAL_SEEDS = 2_000_000, 1_000_000
"""First seeds of these splits; training has those below."""
MAX_SEED = 2**31 - 1

Split = Literal["train", "val", "test"]
_CARRIERS_GHZ: Mapping[Split, tuple[float, ...]] = {
    "train": (0.7, 1.8, 2.6, 3.5, 5.9),
    "val": (0.8, 2.3, 4.2),
    "test": (0.9, 2.1, 2.4, 3.7, 5.2),
}
_N_PATHS: Mapping[Split, tuple[int, ...]] = {
    "train": (6, 8, 10, 12, 16),
    "val": (9, 14),
    "test": (7, 11, 13, 15),
}
_DELAY_SCALE = 2.3  # r_tau, within the 1.7 to 3.8 of TR 38.901, table 7.5-6
_SHADOWING_DB = 3.0  # per path, as the same table has it
_N_SINUSOIDS = 12
_FIRST_BIN = 2  # where the receiver's synchronisation puts the first path

Propagation = Literal["direct", "reflected", "rayleigh", "cascaded"]
_PROPAGATIONS: tuple[Propagation, ...] = ("direct", "reflected", "rayleigh", "cascaded")
_PROPAGATION_SHARES = (0.42, 0.10, 0.26, 0.22)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """What is true of a channel."""

    propagation: Propagation
    """direct: a line of sight, Rician; reflected: none, but one strong reflection, Rician as well;
    rayleigh: diffuse paths only; cascaded: diffuse around both ends (a keyhole), each path a
    product of two Rayleigh processes."""
    k_db: float
    """Power of the specular component over all diffuse power, where there is one."""
    carrier_ghz: float
    speed_mps: float
    snr_db: float
    """Power of the whole response over the noise in one delay bin."""
    delays_s: np.ndarray
    """(n_paths,), ascending from 0."""
    diffuse_powers: np.ndarray
    """(n_paths,), sum 1."""
    specular_path: int | None
    """The path that has the specular component."""

    @property
    def delay_spread_s(self) -> float:
        """rms, all power included."""
        return _rms(
            self.delays_s, _with_specular(self.diffuse_powers, self.specular_path, self.k_db)
        )

    @property
    def doppler_hz(self) -> float:
        """Maximum Doppler frequency, v f / c."""
        return self.speed_mps * self.carrier_ghz * 1e9 / SPEED_OF_LIGHT_MPS

    @property
    def labels(self) -> dict[str, str]:
        """The true class of each attribute."""
        specular = self.propagation in ("direct", "reflected")
        return {
            "line_of_sight": "yes" if self.propagation == "direct" else "no",
            "doppler_class": attribute("doppler_class").label_of(self.doppler_hz),
            "fading_type": "rician" if specular else self.propagation,
            "delay_spread_class": attribute("delay_spread_class").label_of(self.delay_spread_s),
            "snr_band": attribute("snr_band").label_of(self.snr_db),
            "speed_class": attribute("speed_class").label_of(self.speed_mps),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """What a receiver sees."""

    response: np.ndarray
    """(N_TIMES, N_DELAYS) complex64: the estimated impulse response."""
    carrier_ghz: float
    """Receivers know what they are tuned to."""


def split_of_seed(seed: int) -> Split:
    return "test" if seed >= TEST_SEEDS else "val" if seed >= VAL_SEEDS else "train"


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed, in [0, MAX_SEED].

    Speed is log-uniform from 0.8 to 60 m/s, the rms delay spread of the diffuse paths from 20 to
    350 ns (very short to long in TR 38.901, table 7.7.3-1; less where paths would come later than
    can be seen); SNR is uniform from 0 to 30 dB; the K-factor of a line of
    sight is normal, 9 +- 3.5 dB (UMa, table 7.5-6) within 3 and 15, that of a reflection uniform
    from 3 to 10 dB.
    """
    rng, split = _generator(seed), split_of_seed(seed)
    propagation = _PROPAGATIONS[rng.choice(len(_PROPAGATIONS), p=_PROPAGATION_SHARES)]
    direct_k, reflected_k = np.clip(rng.normal(9.0, 3.5), 3.0, 15.0), rng.uniform(3.0, 10.0)
    k_db = float(direct_k if propagation == "direct" else reflected_k)
    spread_s = float(np.exp(rng.uniform(np.log(20e-9), np.log(350e-9))))
    n_paths = int(rng.choice(_N_PATHS[split]))
    specular = None
    if propagation in ("direct", "reflected"):
        specular = 0 if propagation == "direct" else int(rng.integers(1, n_paths // 2))
    raw = np.sort(-np.log(rng.uniform(1e-6, 1, n_paths)))  # in units of r_tau times the spread
    raw -= raw[0]
    powers = np.exp(-raw * (_DELAY_SCALE - 1))
    powers *= 10 ** (-_SHADOWING_DB * rng.standard_normal(n_paths) / 10)
    powers /= powers.sum()
    delays = raw * spread_s / _rms(raw, powers)
    latest = (N_DELAYS - _FIRST_BIN - 4) * DELAY_STEP_S
    return Scenario(
        propagation=propagation,
        k_db=k_db,
        carrier_ghz=float(rng.choice(_CARRIERS_GHZ[split])),
        speed_mps=float(np.exp(rng.uniform(np.log(0.8), np.log(60.0)))),
        snr_db=float(rng.uniform(0.0, 30.0)),
        delays_s=delays * min(1.0, latest / delays[-1]),
        diffuse_powers=powers,
        specular_path=specular,
    )


def simulate(seed: int) -> tuple[Channel, Scenario]:
    """The channel of a seed, and the truth about it."""
    scenario = draw_scenario(seed)
    return realise(scenario, seed), scenario


def realise(scenario: Scenario, seed: int) -> Channel:
    """One channel of a scenario; the seed draws phases, angles and noise."""
    rng = np.random.default_rng([seed, 1])
    times, n_paths = np.arange(N_TIMES) * TIME_STEP_S, len(scenario.delays_s)
    gains = _clarke(scenario.doppler_hz, n_paths, times, rng)
    if scenario.propagation == "cascaded":
        gains *= _clarke(scenario.doppler_hz * rng.uniform(0.2, 1.0), n_paths, times, rng)
    gains *= np.sqrt(scenario.diffuse_powers)[:, None]
    if scenario.specular_path is not None:
        ratio = 10 ** (scenario.k_db / 10)
        shift = scenario.doppler_hz * np.cos(rng.uniform(0, 2 * np.pi))
        phase = rng.uniform(0, 2 * np.pi)
        wave = np.exp(1j * (2 * np.pi * shift * times + phase))
        gains[scenario.specular_path] += np.sqrt(ratio) * wave
        gains /= np.sqrt(1 + ratio)
    response = gains.T @ _pulses(scenario.delays_s + rng.uniform(0, 1) * DELAY_STEP_S)
    sd = np.sqrt(10 ** (-scenario.snr_db / 10) / 2)
    noise = rng.standard_normal(response.shape) + 1j * rng.standard_normal(response.shape)
    response = (response + sd * noise).astype(np.complex64)
    return Channel(response=response, carrier_ghz=scenario.carrier_ghz)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 0])


def _with_specular(powers: np.ndarray, specular: int | None, k_db: float) -> np.ndarray:
    total = powers.copy()
    if specular is not None:
        total[specular] += 10 ** (k_db / 10)
    return total


def _rms(delays: np.ndarray, powers: np.ndarray) -> float:
    """Root-mean-square spread: sqrt(E[t^2] - E[t]^2), weighted by power."""
    share = powers / powers.sum()
    return float(np.sqrt((share * delays**2).sum() - (share * delays).sum() ** 2))


def _clarke(
    doppler_hz: float, n_paths: int, times: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(n_paths, n_times) complex gains of unit mean power with Clarke's Doppler spectrum."""
    shape = (n_paths, _N_SINUSOIDS, 1)
    shifts = doppler_hz * np.cos(rng.uniform(0, 2 * np.pi, shape))
    phases = rng.uniform(0, 2 * np.pi, shape)
    amplitudes = rng.rayleigh(np.sqrt(0.5), shape)  # a finite sum of equal ones is not Gaussian
    waves = amplitudes * np.exp(1j * (2 * np.pi * shifts * times + phases))
    gains: np.ndarray = waves.sum(axis=1) / np.sqrt(_N_SINUSOIDS)
    return gains


def _pulses(delays: np.ndarray) -> np.ndarray:
    """(n_paths, N_DELAYS): a band-limited pulse, tapered to eight bins, for each path."""
    away = np.arange(N_DELAYS) - _FIRST_BIN - delays[:, None] / DELAY_STEP_S
    taper = np.where(np.abs(away) < 4, np.cos(np.pi * away / 8) ** 2, 0.0)
    pulses: np.ndarray = np.sinc(away) * taper
    return pulses
