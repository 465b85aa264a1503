"""Arrays by handle: what tools are given in place of arrays, which belong in no prompt.

Nothing that a caller writes becomes a path: handles are looked up in memory, and files are those
of one folder that the owner names, by the name alone. Numbers are checked before they are kept, so
that tools see only arrays of the form that they were made for.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experts.tools.iox.channels import N_DELAYS, N_TIMES, Channel

CARRIERS_GHZ = (0.3, 10.0)
_HANDLE = re.compile(r"H[1-9][0-9]{0,9}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEADER_BYTES = 4096


class StoreRefusal(ValueError):
    """What was asked of the store cannot be; the message says what would be right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreLimits:
    """What the store keeps at most."""

    max_count: int = 256
    max_bytes: int = 64 << 20
    max_age_s: float = 3600.0
    """Since it was put in; older arrays are gone."""


class ChannelStore:
    """Channels by handle. The oldest go when there are too many. Safe to use from any thread."""

    def __init__(
        self,
        folder: Path | None = None,
        limits: StoreLimits = StoreLimits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """folder: where ``load`` finds arrays; None: nowhere."""
        self._folder, self._limits, self._clock = folder, limits, clock
        self._kept: OrderedDict[str, tuple[float, Channel]] = OrderedDict()
        self._n_made = 0
        self._lock = threading.Lock()

    def put(self, channel: Channel) -> str:
        """Keep a channel; its handle. Raises StoreRefusal for an array of another form."""
        response = checked(channel.response)
        _check_carrier(channel.carrier_ghz)
        if response.nbytes > self._limits.max_bytes:
            raise StoreRefusal(
                f"The array has {response.nbytes:,} bytes; the store keeps "
                f"{self._limits.max_bytes:,} in all."
            )
        kept = Channel(response=response, carrier_ghz=float(channel.carrier_ghz))
        with self._lock:
            self._n_made += 1
            handle = f"H{self._n_made}"
            self._kept[handle] = self._clock(), kept
            self._drop()
        return handle

    def get(self, handle: str) -> Channel:
        """Raises StoreRefusal for a handle that there is not (any more)."""
        if not isinstance(handle, str) or not _HANDLE.fullmatch(handle):
            raise StoreRefusal(f"{str(handle)[:40]!r} is no handle; handles look like H3.")
        with self._lock:
            self._drop()
            if handle not in self._kept:
                raise StoreRefusal(
                    f"There is no channel {handle}. Make one with `simulate`; old ones are dropped."
                )
            return self._kept[handle][1]

    def load(self, name: str, carrier_ghz: float) -> str:
        """Keep the array of ``{name}.npy`` in the store's folder; its handle.

        Raises StoreRefusal for a name that is more than a name, no such file, or an array of
        another form.
        """
        if self._folder is None:
            raise StoreRefusal("This server has no folder of arrays; start it with --folder.")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StoreRefusal(
                f"{str(name)[:40]!r} is no name of an array: letters, digits, - and _ only, "
                "without folder and ending."
            )
        path = self._folder / f"{name}.npy"
        # A link in the folder could lead anywhere, so none is followed.
        if path.is_symlink() or not path.is_file():
            raise StoreRefusal(f"There is no array {name!r} in the folder of this server.")
        most = N_TIMES * N_DELAYS * 16 + _HEADER_BYTES
        if path.stat().st_size > most:
            raise StoreRefusal(f"{name!r} has more than {most:,} bytes.")
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            raise StoreRefusal(f"{name!r} is no array that numpy can read safely.") from None
        return self.put(Channel(response=array, carrier_ghz=carrier_ghz))

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self) -> None:
        """Those that are too old, and the oldest of too many."""
        now = self._clock()
        while self._kept:
            put_at, _ = next(iter(self._kept.values()))
            n_bytes = sum(c.response.nbytes for _, c in self._kept.values())
            if (
                now - put_at <= self._limits.max_age_s
                and len(self._kept) <= self._limits.max_count
                and n_bytes <= self._limits.max_bytes
            ):
                return
            self._kept.popitem(last=False)


def checked(array: object) -> np.ndarray:
    """The array as complex64, a copy that nobody else holds. Raises StoreRefusal for what is no
    finite complex array of the classifiers' shape, or is silent."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.complex64, np.complex128):
        told = getattr(array, "dtype", type(array).__name__)
        raise StoreRefusal(f"An array of complex64 or complex128 is needed; this is {told}.")
    if array.shape != (N_TIMES, N_DELAYS):
        raise StoreRefusal(
            f"The shape is {array.shape}; it has to be ({N_TIMES}, {N_DELAYS}): times, delays."
        )
    with np.errstate(over="ignore"):  # too large for single precision becomes infinite
        response = array.astype(np.complex64)
        power = float(np.mean(np.abs(response).astype(np.float64) ** 2))
    if not np.isfinite(response).all() or not np.isfinite(power):
        raise StoreRefusal("The array has values that are not finite (NaN or infinite).")
    if power == 0.0:
        raise StoreRefusal("The array is zero everywhere.")
    return response


def _check_carrier(carrier_ghz: float) -> None:
    low, high = CARRIERS_GHZ
    if not low <= carrier_ghz <= high:  # NaN, too
        raise StoreRefusal(f"carrier_ghz is {carrier_ghz}; it has to be in [{low:g}, {high:g}].")
