"""Text to vectors: what routers compare questions by.

MiniLM (skills/minilm.py) comes with an installed package, so nothing is downloaded; any other
sentence-transformers model is taken by id; the hashing embedder needs no model at all. Heavy
libraries are imported at the first text, not before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np

from skills.errors import SkillsError
from skills.minilm import MINILM, MINILM_MAX_TOKENS, MiniLMEmbedder, minilm_folder

MINILM_TORCH = "minilm-torch"
HASHING = "hashing"


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """Identity of the vector space: a router fitted on another one cannot be used."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n_texts, n_dims) float32; rows have length 1 (an empty text may have length 0)."""
        ...


class TorchMiniLMEmbedder:
    """The same model in single precision on torch and transformers: what ``minilm`` is judged by.

    Slower by far, and importing what it needs takes seconds.
    """

    name = MINILM
    """One space: what was fitted with either serves with the other."""

    def __init__(self, batch_size: int = 64) -> None:
        self._batch_size = batch_size

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from transformers import AutoTokenizer, BertModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()  # it reports that the pooler is left out, as asked
        folder = str(minilm_folder())
        model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        return AutoTokenizer.from_pretrained(folder), model

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        tokenizer, model = self._parts
        # Texts of similar length share a batch: padding is most of the cost otherwise.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                encoded = tokenizer(
                    [texts[i] for i in rows],
                    padding=True,
                    truncation=True,
                    max_length=MINILM_MAX_TOKENS,
                    return_tensors="pt",
                )
                hidden = model(**encoded).last_hidden_state
                mask = encoded["attention_mask"].unsqueeze(-1)
                mean = (hidden * mask).sum(1) / mask.sum(1)
                vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return vectors


class HashingEmbedder:
    """Words, word pairs and letter trigrams hashed into a fixed number of signed buckets.

    No model, no download, microseconds a text. Format and wording are most of the signal in
    routing, and this sees both; it knows no synonyms.
    """

    def __init__(self, n_dims: int = 1024) -> None:
        if n_dims < 1:
            raise SkillsError(f"{HASHING}-{n_dims}: there must be a bucket to hash into, say 512.")
        self.n_dims = n_dims
        self.name = f"{HASHING}-{n_dims}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.n_dims), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for feature, weight in _features(text):
                code = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "big")
                row[(code >> 1) % self.n_dims] += weight if code & 1 else -weight
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(norms, 1e-12)
        return unit


def _features(text: str) -> list[tuple[str, float]]:
    # Digits are one feature whatever their value: which numbers are added says nothing of skill.
    words = re.findall(r"[a-z']+|\d+|[^\sa-z\d]", text.lower())
    words = ["<number>" if w.isdigit() else w for w in words]
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
    trigrams = [f"#{w[i : i + 3]}" for w in words if len(w) > 3 for i in range(len(w) - 2)]
    return [(w, 1.0) for w in words] + [(p, 0.7) for p in pairs] + [(t, 0.3) for t in trigrams]


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, by hub id or folder (extra ``sentence-transformers``)."""

    def __init__(self, model_id: str) -> None:
        self.name = model_id

    @cached_property
    def _model(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise SkillsError(
                f"The embedder {self.name!r} needs sentence-transformers, which is not installed. "
                "Install the extra: pip install 'conclave-coe[sentence-transformers]', "
                f"or use embedder: {MINILM}."
            ) from None
        return SentenceTransformer(self.name)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors: np.ndarray = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors.astype(np.float32)


class JointEmbedder:
    """Two embedders side by side: the cosine is 0.7 of the first's and 0.3 of the second's.

    Meaning and wording each tell what the other does not: with MiniLM and hashing all routers of
    ``eval`` predict better than with either (docs/lab-notes.md).
    """

    def __init__(self, first: Embedder, second: Embedder) -> None:
        self._parts = ((first, _FIRST_SHARE), (second, 1 - _FIRST_SHARE))
        self.name = f"{first.name}+{second.name}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        parts = [embedder.embed(texts) * np.float32(np.sqrt(w)) for embedder, w in self._parts]
        return np.concatenate(parts, axis=1)


_FIRST_SHARE = 0.7


def make_embedder(spec: str) -> Embedder:
    """``minilm``, ``minilm-torch``, ``hashing`` (or ``hashing-512``), a sentence-transformers id or
    folder, or two of these joined by a plus sign."""
    first, plus, second = spec.partition("+")
    if plus and first and second:
        return JointEmbedder(make_embedder(first), make_embedder(second))
    if spec == MINILM:
        return MiniLMEmbedder()
    if spec == MINILM_TORCH:
        return TorchMiniLMEmbedder()
    if match := re.fullmatch(rf"{HASHING}(?:-(\d+))?", spec):
        return HashingEmbedder(int(match.group(1) or 1024))
    return SentenceTransformerEmbedder(spec)
