"""Short names for the weights and the tokenizer in a folder, to tell them from others.

Sizes and samples of the files, not all of their bytes: large models would take minutes to read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_SAMPLE_BYTES = 1 << 20
_TOKENIZER_FILES = (
    "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"
)  # fmt: skip
"""Where there is no tokenizer.json."""
_SPEECH_FILES = (
    *_TOKENIZER_FILES, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json", "generation_config.json",
)  # fmt: skip
_PER_CALL = ("truncation", "padding")
"""Keys of tokenizer.json that tell how it was last used, not what it is."""

_OF_WHO_SAVED_IT = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")
"""Keys of config.json that tell how it was last saved, not what the model does."""


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


def speech_fingerprint(folder: Path) -> str:
    """16 hex digits; others after any change of what puts conversations into tokens and back:
    tokenizer, chat template, end tokens. All bytes of some megabytes are read."""
    digest = hashlib.blake2b(digest_size=8)
    for path in (folder / name for name in _SPEECH_FILES):
        if path.is_file():
            digest.update(f"{path.name}:{path.stat().st_size};".encode() + path.read_bytes())
    return digest.hexdigest()


def reading_fingerprint(folder: Path) -> str:
    """16 hex digits; others after any change of how the weights are used: what
    ``speech_fingerprint`` sees, and the configuration."""
    digest = hashlib.blake2b(speech_fingerprint(folder).encode(), digest_size=8)
    path = folder / "config.json"
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        kept = {k: v for k, v in told.items() if k not in _OF_WHO_SAVED_IT}
        digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()


def tokenizer_fingerprint(folder: Path) -> str | None:
    """16 hex digits, equal for models whose ids mean the same text and which end alike; None for a
    folder without a tokenizer. Chat templates may differ: engines do not apply them."""
    digest = hashlib.blake2b(digest_size=8)
    path = folder / "tokenizer.json"
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        kept = {k: v for k, v in told.items() if k not in _PER_CALL}
        digest.update(json.dumps(kept, sort_keys=True).encode())
    else:
        found = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
        if not found:
            return None
        for file in found:
            digest.update(file.name.encode() + file.read_bytes())
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            about = json.loads((folder / name).read_text(encoding="utf-8"))
            digest.update(f"{name}:{about.get('eos_token_id')}".encode())
    return digest.hexdigest()
