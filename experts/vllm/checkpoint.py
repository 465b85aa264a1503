"""Model and adapter folders, checked by their headers before an engine is asked to load them.

An engine finds out late, and dies of it: vLLM 0.32 ends when weights that are reloaded in place are
missing, cut off or of another shape, and it *takes* an adapter that was made for a base of another
width, and answers nonsense. Headers are a few kilobytes, so all of this is known beforehand.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experts.errors import BadModel
from experts.local.fingerprint import speech_fingerprint, weights_fingerprint

_MAX_HEADER_BYTES = 100 << 20
_MAY_DIFFER = (
    "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
"""Keys of config.json that checkpoints of one family may have other values of: names, and tokens
that come with each request (a base model and its instruct sibling often end differently)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A base model's folder, as its headers tell it."""

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    """Of every tensor."""
    n_bytes: int
    """Of all tensors, as stored."""
    version: str
    """Fingerprint of the weights."""
    speech: str
    """Fingerprint of tokenizer and chat template."""
    family: str = field(init=False)
    """Equal for checkpoints that one engine can hold one after the other: the same config up to
    what may differ, the same tensors with the same shapes."""

    def __post_init__(self) -> None:  # once: policies ask for it at every turn
        told = {k: v for k, v in self.config.items() if k not in _MAY_DIFFER}
        said = json.dumps([told, sorted(self.shapes.items())], sort_keys=True)
        digest = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
        object.__setattr__(self, "family", digest)

    @property
    def is_tied(self) -> bool:
        """Its words are scored with the embeddings: the file has no tensor of its own for that."""
        said = self.config.get("tie_word_embeddings")
        has_head = any("lm_head" in name for name in self.shapes)
        return not has_head if said is None else bool(said)

    @property
    def context_tokens(self) -> int:
        return int(self.config.get("max_position_embeddings") or 2048)


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """A LoRA adapter's folder (PEFT's layout), as its headers tell it."""

    folder: Path
    config: dict[str, Any]
    rank: int
    base: str
    """What its config says that it was made for; often a hub's name."""
    shapes: dict[str, tuple[int, ...]]
    n_bytes: int
    version: str
    speech: str
    """Its own, where it has one."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises BadModel when the folder is missing, is not a model, or its weights are cut off."""
    _check_folder(folder, "a Hugging Face model")
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise BadModel(
            f"{folder} holds a LoRA adapter, not a whole model. Say what it sits on: `base:` with "
            "the name of the expert that it was made for."
        )
    config = _read_json(folder / "config.json", "a model folder has one")
    if not config.get("architectures"):
        raise BadModel(
            f"{folder}/config.json names no `architectures`: vLLM cannot tell what it is."
        )
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise BadModel(
            f"{folder} holds no *.safetensors. Pickled weights (*.bin) are not loaded; "
            "convert them first."
        )
    shapes, n_bytes = _tensors(paths)
    if not n_bytes:
        raise BadModel(f"The *.safetensors in {folder} hold no tensors. Fetch the model again.")
    return Checkpoint(
        folder=folder,
        config=config,
        shapes=shapes,
        n_bytes=n_bytes,
        version=weights_fingerprint(folder),
        speech=speech_fingerprint(folder),
    )


def read_adapter(folder: Path) -> Adapter:
    """Raises BadModel when the folder is missing or holds no LoRA adapter."""
    _check_folder(folder, "a LoRA adapter")
    if not (folder / "adapter_config.json").is_file() and (folder / "config.json").is_file():
        raise BadModel(
            f"{folder} has no adapter_config.json: it holds a whole model, not a LoRA adapter. "
            "Leave `base` out."
        )
    config = _read_json(folder / "adapter_config.json", "a LoRA adapter (PEFT's layout) has one")
    if config.get("peft_type") != "LORA" or not isinstance(config.get("r"), int):
        raise BadModel(
            f"{folder}/adapter_config.json: peft_type is {config.get('peft_type')!r} and r "
            f"{config.get('r')!r}; only LORA with a whole rank r can be loaded."
        )
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise BadModel(f"{folder} has no adapter_model.safetensors.")
    shapes, n_bytes = _tensors([path])
    return Adapter(
        folder=folder,
        config=config,
        rank=config["r"],
        base=str(config.get("base_model_name_or_path") or ""),
        shapes=shapes,
        n_bytes=n_bytes,
        version=weights_fingerprint(folder),
        speech=speech_fingerprint(folder),
    )


def check_adapter(adapter: Adapter, base: Checkpoint, *, max_rank: int) -> None:
    """Raises BadModel when the adapter's rank is above the engine's, or it was made for another
    base: one that lacks the layers it changes, or has them in another size."""
    if adapter.rank > max_rank:
        raise BadModel(
            f"The adapter in {adapter.folder} has rank {adapter.rank}; the engine takes up to "
            f"{max_rank}. Raise `max_lora_rank`."
        )
    for name, shape in adapter.shapes.items():
        module, part = _adapted_module(name)
        if part is None:
            continue
        changed = base.shapes.get(f"{module}.weight")
        if changed is None:
            raise BadModel(
                f"The adapter in {adapter.folder} changes {module}, which {base.folder} does not "
                f"have. It was made for {adapter.base or 'another base'}."
            )
        theirs, ours = (shape[1], changed[1]) if part == "lora_A" else (shape[0], changed[0])
        if theirs != ours:
            raise BadModel(
                f"The adapter in {adapter.folder} was made for another base "
                f"({adapter.base or 'not named'}): its {module} has {theirs} where {base.folder} "
                f"has {ours}."
            )


def _check_folder(folder: Path, of: str) -> None:
    if not folder.is_dir():
        raise BadModel(
            f"There is no folder {folder}. Give the folder of {of}. Nothing is fetched from a hub: "
            "download it first (hf download ID --local-dir FOLDER)."
        )


def _adapted_module(name: str) -> tuple[str, str | None]:
    """``("model.layers.0.self_attn.q_proj", "lora_A")`` of a tensor's name in PEFT's layout."""
    for part in ("lora_A", "lora_B"):
        module, found, _ = name.partition(f".{part}.")
        if found:
            return module.removeprefix("base_model.model."), part
    return name, None


def _read_json(path: Path, why: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModel(f"{path.parent} has no {path.name}; {why}.") from None
    except (OSError, ValueError) as error:
        raise BadModel(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise BadModel(f"{path} holds {type(found).__name__}, not keys and values.")
    return found


def _tensors(paths: list[Path]) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes by name, and bytes in all. The layout: 8 bytes that say how long the JSON header is,
    the header, the data (github.com/huggingface/safetensors, README)."""
    shapes: dict[str, tuple[int, ...]] = {}
    total = 0
    for path in paths:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                    raise ValueError(f"{length} bytes of header in a file of {size}")
                header = json.loads(file.read(length))
            about = {k: v for k, v in header.items() if k != "__metadata__"}
            end = max((v["data_offsets"][1] for v in about.values()), default=0)
            shapes |= {k: tuple(v["shape"]) for k, v in about.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadModel(f"{path} is not a safetensors file, or a broken one: {error}") from None
        if size != 8 + length + end:
            raise BadModel(
                f"{path} is cut off or overwritten: it has {size} bytes, its header speaks of "
                f"{8 + length + end}. Copy it again."
            )
        total += end
    return shapes, total
