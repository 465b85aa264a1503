"""Whether an engine holds the weights that it should.

Two checks, since each is blind somewhere. *Checksums* compare tensors in the engine with the file;
but engines fuse, shard and pack (on CPUs all linear layers are packed away), so a start, which is
trusted, tells which tensors can be compared at all, and hashing seventy gigabytes takes minutes. A
*known answer* goes through every layer; but it must have been known, so a model's first one is
believed. Together: the file's norms and embeddings are there, and the model says what it said
before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Iterable
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
_N_ASKED, _N_ANSWERED = 8, 8
_TOLERANCE = 0.05
"""Of a token's log-probability: half precision, in another order of sums."""
_ROWS = 64
"""vLLM pads the rows of embeddings to a multiple of this with zeros."""


class Verifier:
    """Remembers what was seen at starts, for all slots."""

    def __init__(self) -> None:
        self._comparable: dict[str, frozenset[str]] = {}
        """By family: tensors that an engine keeps as the file has them."""
        self._answers: dict[str, Tokens] = {}
        """By version of the weights."""
        self._digests: dict[str, dict[str, frozenset[str]]] = {}
        """Of a file's tensors, by version and name."""

    def sees_layers(self, family: str) -> bool:
        """Whether checksums would tell linear layers of one checkpoint from another's."""
        return any(
            ".layers." in name and "norm" not in name
            for name in self._comparable.get(family, frozenset())
        )

    async def check(
        self, control: Control, served_name: str, checkpoint: Checkpoint, *, is_start: bool
    ) -> None:
        """Raises EngineFailed when it is not this checkpoint that answers. is_start: the engine
        read it at its start, so what cannot be compared is learned rather than wrong."""
        if checkpoint.n_bytes <= MAX_HASHED_BYTES:
            held = await control.checksums()
            digests = await self._of_file(checkpoint)
            same = frozenset(n for n in held.keys() & digests.keys() if held[n] in digests[n])
            if is_start:
                self._comparable[checkpoint.family] = same
            elif wrong := self._comparable.get(checkpoint.family, frozenset()) - same:
                raise EngineFailed(
                    f"After the swap to {checkpoint.folder}, {len(wrong)} tensors are not those "
                    f"of the file, {min(wrong)} among them."
                )
        await self.check_answer(
            control, served_name, checkpoint.version, checkpoint.config, is_start=is_start
        )

    async def check_answer(
        self,
        control: Control,
        served_name: str,
        version: str,
        config: dict[str, Any],
        *,
        is_start: bool,
    ) -> None:
        """Raises EngineFailed when the model says something else than it said before. What it says
        after a start is true whatever it said before: the engine has read nothing else."""
        n_words = int(config.get("vocab_size") or 1000)
        prompt = [i % n_words for i in range(3, 3 + _N_ASKED)]
        said = await known_answer(control, served_name, prompt, _N_ANSWERED)
        if is_start:
            self._answers[version] = said
        known = self._answers.setdefault(version, said)
        if not _is_same(said, known):
            raise EngineFailed(
                f"Model {served_name!r} ({version}) does not say what it said before: "
                f"{[t.id for t in said]} instead of {[t.id for t in known]}."
            )

    async def _of_file(self, checkpoint: Checkpoint) -> dict[str, frozenset[str]]:
        if checkpoint.version not in self._digests:
            self._digests[checkpoint.version] = await asyncio.to_thread(_digests, checkpoint.folder)
        return self._digests[checkpoint.version]


def _is_same(said: Tokens, known: Tokens) -> bool:
    """The first token's log-probability must agree, and the ids until two were equally likely."""
    for token, was in zip(said, known, strict=False):
        if not math.isclose(token.logprob, was.logprob, abs_tol=_TOLERANCE):
            return False
        if token.id != was.id:
            return True  # a tie that rounding decided: from here on the texts may differ
    return True


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
