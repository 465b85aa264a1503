"""A short name for the weights in a folder, so that what was learned about others is not used.

Sizes and samples of the files, not all of their bytes: large models would take minutes to read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_SAMPLE_BYTES = 1 << 20


def weights_fingerprint(folder: Path) -> str:
    """16 hex digits; the same wherever the folder lies, another after any retraining."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("tokenizer.json")]):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
