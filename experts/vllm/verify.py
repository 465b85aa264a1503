"""Whether an engine holds the weights that it should.

Two checks, since each is blind somewhere. *Checksums* compare tensors in the engine with the file;
but engines fuse, shard and pack (on CPUs all linear layers are packed away), so a start, which is
trusted, tells which tensors can be compared at all, and hashing seventy gigabytes takes minutes. A
*known answer* goes through every layer; but it must have been known. Where checksums vouch for the
file's norms and embeddings, a model's first answer is believed also after a reload; where they are
too slow, only after a start, so a model too large for them is started once before it is reloaded
(``can_tell``).

What was seen is true of the weights *as an engine was told to run them*: in another precision, the
same weights say something else, and other tensors of theirs can be compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.errors import EngineFailed
from experts.vllm.asking import Tokens, known_answer
from experts.vllm.checkpoint import Checkpoint
from experts.vllm.control import Control

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_HASHED_BYTES = 2e9
"""Above it, only the known answer is asked for: hashing would take longer than the swap."""
_SAYS_NOTHING = frozenset(
    (
        "--gpu-memory-utilization", "--kv-cache-memory-bytes", "--swap-space",
        "--max-num-seqs", "--max-num-batched-tokens", "--enable-sleep-mode",
    )
)  # fmt: skip
"""Arguments of slots that change no answer, so that what one slot has seen serves the others."""
_N_ASKED, _N_ANSWERED = 8, 8
_TOLERANCE = 0.05
"""Of a token's log-probability: half precision, in another order of sums."""
_ROWS = 64
"""vLLM pads the rows of embeddings to a multiple of this with zeros."""


Run = tuple[str, tuple[str, ...]]
"""Weights (their version, or their family), and the arguments that they are run with."""


class Verifier:
    """Remembers what was seen at starts, for all slots; not beyond this process."""

    def __init__(self, max_hashed_bytes: float = MAX_HASHED_BYTES) -> None:
        self._max_hashed_bytes = max_hashed_bytes
        self._comparable: dict[Run, frozenset[str]] = {}
        """By family: tensors that an engine keeps as the file has them."""
        self._answers: dict[Run, Tokens] = {}
        """By version."""
        self._digests: dict[str, dict[str, frozenset[str]]] = {}
        """Of a file's tensors, by version and name."""

    def sees_layers(self, checkpoint: Checkpoint, args: Sequence[str]) -> bool:
        """Whether checksums would tell its linear layers from those of another of its family."""
        return any(
            ".layers." in name and "norm" not in name
            for name in self._comparable.get((checkpoint.family, _telling(args)), frozenset())
        )

    def can_tell(self, checkpoint: Checkpoint, args: Sequence[str]) -> bool:
        """Whether ``check`` could tell it from other weights after a reload."""
        is_known = (checkpoint.version, _telling(args)) in self._answers
        return is_known or checkpoint.n_bytes <= self._max_hashed_bytes

    async def check(
        self,
        control: Control,
        served_name: str,
        checkpoint: Checkpoint,
        args: Sequence[str],
        *,
        is_start: bool,
    ) -> None:
        """Raises EngineFailed when it is not this checkpoint that answers. args: all of the
        engine's. is_start: the engine read it at its start, and nothing else, so what it holds and
        says is learned rather than wrong."""
        telling = _telling(args)
        if checkpoint.n_bytes <= self._max_hashed_bytes:
            held = await control.checksums()
            digests = await self._of_file(checkpoint)
            same = frozenset(n for n in held.keys() & digests.keys() if held[n] in digests[n])
            family = checkpoint.family, telling
            if is_start:
                self._comparable[family] = same
            elif wrong := self._comparable.get(family, frozenset()) - same:
                raise EngineFailed(
                    f"After the swap to {checkpoint.folder}, {len(wrong)} tensors are not those "
                    f"of the file, {min(wrong)} among them."
                )
        elif not (is_start or self.can_tell(checkpoint, args)):
            raise EngineFailed(
                f"Nothing tells whether {checkpoint.folder} was loaded: it is too large for "
                "checksums, and no engine was started with it before."
            )
        n_words = int(checkpoint.config.get("vocab_size") or 1000)
        prompt = [i % n_words for i in range(3, 3 + _N_ASKED)]
        said = await known_answer(control, served_name, prompt, _N_ANSWERED)
        run = checkpoint.version, telling
        known = said if is_start else self._answers.get(run, said)
        if not _is_same(said, known):
            raise EngineFailed(
                f"After the swap to {checkpoint.folder}, {served_name!r} does not say what this "
                f"model said before: {[t.id for t in said]} instead of {[t.id for t in known]}. "
                "An engine that is started with it settles which of the two is right: what it says "
                "is believed."
            )
        self._answers[run] = known

    async def _of_file(self, checkpoint: Checkpoint) -> dict[str, frozenset[str]]:
        if checkpoint.version not in self._digests:
            self._digests[checkpoint.version] = await asyncio.to_thread(_digests, checkpoint.folder)
        return self._digests[checkpoint.version]


def _telling(args: Sequence[str]) -> tuple[str, ...]:
    """Arguments that may change what a model says, or how an engine keeps its tensors.

    >>> _telling(["--dtype", "float16", "--max_num_seqs", "8", "--swap-space=4", "--seed", "1"])
    ('--dtype', 'float16', '--seed', '1')
    """
    kept: list[str] = []
    is_kept = True
    for word in args:
        if word.startswith("--"):  # what follows, up to the next, belongs to it
            is_kept = word.partition("=")[0].replace("_", "-") not in _SAYS_NOTHING
        if is_kept:
            kept.append(word)
    return tuple(kept)


def _is_same(said: Tokens, known: Tokens) -> bool:
    """Token by token, the same with the same log-probability; until two were equally likely, where
    rounding decides, and the texts may differ from there on."""
    for token, was in zip(said, known, strict=False):
        if not math.isclose(token.logprob, was.logprob, abs_tol=_TOLERANCE):
            return False
        if token.id != was.id:
            then = dict(token.top).get(was.id, -math.inf)
            return math.isclose(then, was.logprob, abs_tol=_TOLERANCE)
    return bool(said)


def _digests(folder: Path) -> dict[str, frozenset[str]]:
    """sha256 of each tensor in the forms in which an engine may hold it."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
            for name, about in header.items():
                if name == "__metadata__":
                    continue
                start, end = about["data_offsets"]
                file.seek(8 + length + start)
                data = file.read(end - start)
                found[name] = frozenset(_forms(data, about["dtype"], about["shape"]))
    return found


def _forms(data: bytes, dtype: str, shape: list[int]) -> Iterable[str]:
    """Digests as stored and in other precisions; rows padded as embeddings are."""
    for form in _precisions(data, dtype):
        yield hashlib.sha256(form).hexdigest()
        if len(shape) == 2 and shape[0] % _ROWS:
            more = bytes(len(form) // shape[0] * (-shape[0] % _ROWS))
            yield hashlib.sha256(form + more).hexdigest()


def _precisions(data: bytes, dtype: str) -> Iterable[bytes]:
    import numpy as np

    yield data
    wide: NDArray[np.float32]
    if dtype == "BF16":
        wide = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif dtype in ("F16", "F32"):
        wide = np.frombuffer(data, np.float16 if dtype == "F16" else np.float32).astype(np.float32)
    else:
        return
    if dtype != "F32":
        yield wide.tobytes()
    if dtype != "F16":
        with np.errstate(over="ignore"):
            yield wide.astype(np.float16).tobytes()
    if dtype != "BF16":
        bits = wide.view(np.uint32)
        # To the nearest, ties to even.
        yield ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
