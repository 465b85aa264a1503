"""What the classifiers look at: figures of a channel's impulse response, none of them learned.

All noise powers are taken off first, so that features say something of the channel at any SNR.
"""

from __future__ import annotations

import numpy as np

from experts.tools.iox.channels import N_TIMES, TIME_STEP_S, Channel

_QUIET_BINS = 16
_POOLS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 26, 32, 44)
"""First bins of the pools that a profile is averaged in: fine where most paths are."""
_LAGS = (1, 2, 4, 8, 16, 32, 64)
_TINY = 1e-12


def features(channel: Channel) -> np.ndarray:
    """(N_FEATURES,) float64, all finite.

    Moments as in Greenstein, Michelson and Erceg 1999 for the K-factor; autocorrelation as in
    Clarke's J0(2 pi f t); spread as the second moment of the power delay profile.
    """
    h = channel.response.astype(np.complex128)
    h /= np.sqrt(np.mean(np.abs(h) ** 2)) + _TINY
    power = np.abs(h) ** 2
    per_bin = power.mean(axis=0)
    # The quietest bins are quieter than the noise is on average, by a factor that N_TIMES makes
    # small, and which learning takes care of.
    noise = float(np.sort(per_bin)[:_QUIET_BINS].mean()) + _TINY
    profile = np.maximum(per_bin - noise * (1 + 3 / np.sqrt(len(h))), 0.0)
    if not profile.any():
        profile[per_bin.argmax()] = 1.0
    weights = profile / profile.sum()
    strongest = int(profile.argmax())
    heard = np.flatnonzero(profile > 0.03 * profile.max())
    others = heard[np.abs(heard - strongest) > 1]
    return np.concatenate(
        [
            [np.log10(channel.carrier_ghz), _db((per_bin - noise).sum() / noise)],
            _delays(weights, strongest, heard),
            _spreads(per_bin - noise),
            _shape(per_bin - noise, noise),
            _amplitudes(power, profile, noise, [strongest]),
            _amplitudes(power, profile, noise, heard),
            _amplitudes(power, profile, noise, others),
            _autocorrelations(h, profile, noise, [strongest]),
            _autocorrelations(h, profile, noise, heard),
            _autocorrelations(h, profile, noise, others),
            _spectrum(h, noise, [strongest]),
            _spectrum(h, noise, heard),
        ]
    )


def _db(ratio: float) -> float:
    return float(10 * np.log10(max(ratio, 1e-3)))


def _delays(weights: np.ndarray, strongest: int, heard: np.ndarray) -> np.ndarray:
    bins = np.arange(len(weights))
    mean = (weights * bins).sum()
    spread = np.sqrt(max((weights * bins**2).sum() - mean**2, 0.0))
    near = weights[max(0, strongest - 1) : strongest + 2].sum()
    first = weights[: heard[0] + 3].sum()
    return np.array(
        [
            np.log(spread + 0.05), mean - heard[0], strongest - heard[0], strongest,
            heard[-1] - heard[0], len(heard), near, first, np.log(1.001 - min(near, 1.0)),
        ]
    )  # fmt: skip


def _spreads(profile: np.ndarray) -> np.ndarray:
    """Logarithm of the rms spread in bins, of what is above a share of the strongest bin."""
    bins, told = np.arange(len(profile)), []
    for share in (0.3, 0.1, 0.03, 0.01, 0.003):
        kept = np.where(profile > share * profile.max(), profile, 0.0)
        kept = kept / kept.sum() if kept.any() else np.eye(len(profile))[0]
        mean = (kept * bins).sum()
        told.append(np.log(np.sqrt(max((kept * bins**2).sum() - mean**2, 0.0)) + 0.1))
    return np.array(told)


def _shape(profile: np.ndarray, noise: float) -> np.ndarray:
    """The power delay profile in dB below its strongest pool, as far down as it can be told from
    noise."""
    sizes = np.diff([*_POOLS, len(profile)])
    pooled = np.add.reduceat(profile, _POOLS) / sizes
    heard = np.maximum(pooled, 2 * noise / np.sqrt(N_TIMES * sizes))
    return np.asarray(10 * np.log10(heard / heard.max()))


def _amplitudes(
    power: np.ndarray, profile: np.ndarray, noise: float, bins: np.ndarray | list[int]
) -> np.ndarray:
    """Moments of the power over time, averaged over bins: relative variance without the noise's
    part, relative fourth moment, mean logarithm, and a K-factor."""
    if not len(bins):
        return np.zeros(4)
    chosen = power[:, bins]
    signal = profile[bins] + _TINY
    share = signal / signal.sum()
    # A signal of power s in noise n: Var(p) = Var(signal) + 2 s n + n^2.
    variance = np.maximum(chosen.var(axis=0) - 2 * signal * noise - noise**2, 0.0)
    gamma = float((share * np.minimum(variance / signal**2, 9.0)).sum())
    mean = chosen.mean(axis=0) + _TINY
    fourth = float((share * (chosen**2).mean(axis=0) / mean**2).sum())
    logarithm = float((share * (np.log(chosen + _TINY).mean(axis=0) - np.log(mean))).sum())
    s = np.sqrt(max(1.0 - gamma, 0.0))
    return np.array([gamma, fourth, logarithm, s])


def _autocorrelations(
    h: np.ndarray, profile: np.ndarray, noise: float, bins: np.ndarray | list[int]
) -> np.ndarray:
    """|r| at each lag and the real part at two, relative to the power without noise; and the
    Doppler that the first lags tell, in log Hz."""
    if not len(bins):
        return np.zeros(len(_LAGS) + 3)
    chosen = h[:, bins]
    signal = max(float((np.abs(chosen) ** 2).mean(axis=0).sum() - noise * len(bins)), _TINY)
    r = [np.vdot(chosen[:-lag], chosen[lag:]) / (len(h) - lag) / signal for lag in _LAGS]
    absolute = np.minimum(np.abs(r), 1.5)
    # J0(x) ~ 1 - x^2 / 4 for small x.
    bends = [
        np.log(max(2 * np.sqrt(max(1 - absolute[i], 1e-5)) / (2 * np.pi * _LAGS[i] * TIME_STEP_S),
                   0.1))
        for i in (0, 2, 4)
    ]  # fmt: skip
    return np.array([*absolute, *bends])


def _spectrum(h: np.ndarray, noise: float, bins: np.ndarray | list[int]) -> np.ndarray:
    """Doppler spectrum: share of its strongest line, log of its rms width and of its extent."""
    window = np.hanning(len(h))[:, None]
    lines = (np.abs(np.fft.fft(h[:, bins] * window, axis=0)) ** 2).sum(axis=1)
    floor = noise * float((window**2).sum()) * len(bins)
    clean = np.maximum(lines - 3 * floor, 0.0)
    if not clean.any():
        clean[lines.argmax()] = 1.0
    clean /= clean.sum()
    hz = np.fft.fftfreq(len(h), TIME_STEP_S)
    centre = (clean * hz).sum()
    width = np.sqrt(max((clean * (hz - centre) ** 2).sum(), 0.0))
    heard = np.abs(hz[clean > 0.01 * clean.max()])
    top = np.sort(clean)[::-1]
    return np.array(
        [top[:3].sum(), np.log(width + 1.0), np.log(heard.max() + 1.0), np.log(abs(centre) + 1.0)]
    )
