"""Host memory that holds copies of weights, so that they need not be read from disk again."""

from __future__ import annotations

from experts.errors import PolicyError


class HostMemory:
    """Weights are read-only, so a copy is dropped, never written back. What a load read from disk
    stays while there is room, least recently used out first, as an operating system's page cache
    does it; a prefetch names what it replaces."""

    __slots__ = ("holds", "memory_bytes", "n_bytes", "reading", "used_bytes")

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.holds: dict[str, float] = {}
        self.n_bytes: dict[str, int] = {}
        self.used_bytes = 0
        """The prefetch that is under way included."""
        self.reading: str | None = None

    @property
    def free_bytes(self) -> int:
        return self.memory_bytes - self.used_bytes

    def keep(self, model: str, n_bytes: int, now_s: float) -> None:
        """After a load. Nothing is kept that is larger than all of host memory."""
        if model == self.reading:
            return
        if model in self.holds:
            self.holds[model] = now_s
            return
        reserved = self.n_bytes.get(self.reading, 0) if self.reading else 0
        if n_bytes > self.memory_bytes - reserved:
            return
        while self.free_bytes < n_bytes:
            self._drop(min(self.holds, key=lambda name: self.holds[name]))
        self._add(model, n_bytes)
        self.holds[model] = now_s

    def begin(self, model: str, n_bytes: int, evict: tuple[str, ...]) -> None:
        """Raises PolicyError when it cannot be: one prefetch at a time, and it must fit."""
        if self.reading is not None:
            raise PolicyError(
                f"Prefetch of {model!r}, but {self.reading!r} is still being read. Wait for it."
            )
        if model in self.holds:
            raise PolicyError(f"Prefetch of {model!r}, which is in host memory already.")
        for name in evict:
            if name not in self.holds:
                raise PolicyError(f"{name!r} cannot leave host memory: it is not in it.")
            self._drop(name)
        if self.free_bytes < n_bytes:
            raise PolicyError(
                f"Prefetch of {model!r} needs {n_bytes} bytes of host memory, {self.free_bytes} "
                "are free. Evict more."
            )
        self._add(model, n_bytes)
        self.reading = model

    def end(self, now_s: float, *, ok: bool = True) -> None:
        """The prefetch is over."""
        model, self.reading = self.reading, None
        if model is None:
            raise PolicyError("No prefetch is under way.")
        if ok:
            self.holds[model] = now_s
        else:
            self.used_bytes -= self.n_bytes.pop(model)

    def _add(self, model: str, n_bytes: int) -> None:
        self.n_bytes[model] = n_bytes
        self.used_bytes += n_bytes

    def _drop(self, model: str) -> None:
        del self.holds[model]
        self.used_bytes -= self.n_bytes.pop(model)
