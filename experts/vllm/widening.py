"""One shape for several checkpoints, so that one engine can take any of them in place.

vLLM reloads weights in place only where every tensor keeps its shape. Small Llama models that
differ in width, heads, layers or vocabulary are rewritten into their least common shape, without
changing what they compute (function-preserving widening, Net2Net, arXiv:1511.05641, made exact for
RMSNorm):

- New heads, neurons and layers are zeros: they add nothing.
- RMSNorm divides by the mean over all dimensions, new ones included. With the residual stream
  scaled by s = sqrt(width' / width) the mean square is what it was, and norm weights are divided
  by s.
- One new dimension holds a constant c with c^2 = width' (eps - eps'): what it adds to the mean
  square is what the smaller eps' takes away, so the norm is exact, not nearly.
- The same constant gives the new words' logits a bias of -BAR over the root mean square: a word
  that a model does not have is never said, and takes no probability.

Exact up to rounding in single precision; half precision would round s and c, so it is not offered.
It costs the arithmetic of the larger shape. What it does *not* do: architectures other than Llama.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[np.float32]]

BAR = 1e6
_MULTIPLE = 8
_SAME = ("head_dim", "rope_parameters", "rope_theta", "rope_scaling", "hidden_act", "model_type")
"""Keys of config.json that cannot be padded: models of one shape must agree on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a Llama, as in its config.json."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    neurons: int
    words: int
    eps: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        heads, width = config["num_attention_heads"], config["hidden_size"]
        return cls(
            width=width,
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or width // heads,
            neurons=config["intermediate_size"],
            words=config["vocab_size"],
            eps=config["rms_norm_eps"],
        )


def common_shape(folders: Sequence[Path]) -> Shape:
    """The least shape that all models in ``folders`` fit into.

    Raises ConfigError when they cannot share one: another architecture, biases, other rotary
    embeddings or ratios of heads.
    """
    configs = [_config(folder) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if config.get("architectures") != ["LlamaForCausalLM"]:
            raise ConfigError(
                f"{folder}: {config.get('architectures')} cannot be widened; only LlamaForCausalLM."
            )
        if config.get("attention_bias") or config.get("mlp_bias"):
            raise ConfigError(f"{folder}: models with biases cannot be widened.")
        for key in _SAME:
            if config.get(key) != configs[0].get(key):
                raise ConfigError(
                    f"{folder} and {folders[0]} cannot share a shape: {key} is "
                    f"{config.get(key)!r} and {configs[0].get(key)!r}."
                )
    shapes = [Shape.of(config) for config in configs]
    if len({s.heads // s.kv_heads for s in shapes}) > 1:
        raise ConfigError("Models with different ratios of query to key heads share no shape.")
    width = max(s.width for s in shapes) + 1  # one dimension for the constant
    heads = max(s.heads for s in shapes)
    multiple = math.lcm(_MULTIPLE, heads)  # transformers wants width to be divisible by heads
    return Shape(
        width=-(-width // multiple) * multiple,
        layers=max(s.layers for s in shapes),
        heads=heads,
        kv_heads=max(s.kv_heads for s in shapes),
        head_dim=shapes[0].head_dim,
        neurons=max(s.neurons for s in shapes),
        words=max(s.words for s in shapes),
        eps=min(s.eps for s in shapes) / 2,
    )


def widen(folder: Path, shape: Shape, out: Path) -> None:
    """Write the model in ``folder`` into ``out`` with sizes ``shape``, in single precision.

    Everything beside the weights and config.json is copied. Raises ConfigError for tensors that a
    Llama does not have.
    """
    from safetensors.numpy import save_file

    config = _config(folder)
    tensors = _widened(_read(folder), Shape.of(config), shape, folder)
    out.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copyfile(path, out / path.name)
    about = {
        **config,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.neurons,
        "vocab_size": shape.words,
        "rms_norm_eps": shape.eps,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    about.pop("torch_dtype", None)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(about, indent=2, sort_keys=True), encoding="utf-8")


def _widened(weights: Tensors, old: Shape, new: Shape, folder: Path) -> Tensors:
    import numpy as np

    s = math.sqrt(new.width / old.width)
    c = math.sqrt(new.width * (old.eps - new.eps))
    wide: Tensors = {}

    def put(name: str, shape: tuple[int, ...], block: NDArray[np.float32] | None) -> None:
        full = np.zeros(shape, np.float32)
        if block is not None:
            full[tuple(slice(n) for n in block.shape)] = block
        wide[name] = full

    def take(name: str) -> NDArray[np.float32]:
        try:
            return weights.pop(name)
        except KeyError:
            raise ConfigError(f"{folder} holds no tensor {name!r}: not a whole Llama.") from None

    # Words: the constant is part of every embedding, so it is in the residual stream from the start
    # and nothing else writes to its dimension.
    embedding = take("model.embed_tokens.weight")
    head = weights.pop("lm_head.weight", embedding)
    put("model.embed_tokens.weight", (new.words, new.width), s * embedding)
    wide["model.embed_tokens.weight"][:, old.width] = c
    put("lm_head.weight", (new.words, new.width), head)
    wide["lm_head.weight"][old.words :, old.width] = -BAR
    norm = take("model.norm.weight") / s
    put("model.norm.weight", (new.width,), norm)
    wide["model.norm.weight"][old.width] = 1 / c

    d = new.head_dim
    sizes = {
        "self_attn.q_proj": (new.heads * d, new.width),
        "self_attn.k_proj": (new.kv_heads * d, new.width),
        "self_attn.v_proj": (new.kv_heads * d, new.width),
        "self_attn.o_proj": (new.width, new.heads * d),
        "mlp.gate_proj": (new.neurons, new.width),
        "mlp.up_proj": (new.neurons, new.width),
        "mlp.down_proj": (new.width, new.neurons),
        "input_layernorm": (new.width,),
        "post_attention_layernorm": (new.width,),
    }
    for layer in range(new.layers):
        for part, size in sizes.items():
            name = f"model.layers.{layer}.{part}.weight"
            if layer >= old.layers:
                put(name, size, None)
                continue
            block = take(name)
            if part.endswith("layernorm"):
                block = block / s
            elif part.endswith(("o_proj", "down_proj")):
                block = block * s
            put(name, size, block)
    if weights:
        raise ConfigError(f"{folder} holds tensors that a Llama does not have: {sorted(weights)}")
    return wide


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found


def _read(folder: Path) -> Tensors:
    import numpy as np
    from safetensors.numpy import load_file

    tensors: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= {k: v.astype(np.float32) for k, v in load_file(path).items()}
    return tensors
