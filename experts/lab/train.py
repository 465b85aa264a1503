"""Train one bundled expert from its recipe: questions in, a Hugging Face model folder out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.lab.composites.corpus import make_member_corpus
from experts.lab.corpus import Batch, Corpus, batches, make_call_corpus, make_corpus
from experts.lab.questions import skills_of
from experts.lab.recipe import ExpertRecipe
from experts.lab.tokenizers import save_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a training run stands."""

    step: int
    n_steps: int
    loss: float
    """Of the step, in nats a token."""
    elapsed_s: float


def build_model(recipe: ExpertRecipe, tokenizer: Any) -> Any:
    """A freshly initialised Llama of the recipe's shape.

    Heads are 32 wide because that is the narrowest that vLLM's CPU attention accepts.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    heads = recipe.width // 32
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=recipe.ffn,
            num_hidden_layers=recipe.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=32,
            max_position_embeddings=recipe.context_tokens,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def batch_loss(model: Any, batch: Batch, device: str) -> Any:
    """Mean cross-entropy, in nats, of the tokens that count."""
    import torch
    import torch.nn.functional as F

    ids = torch.from_numpy(batch.ids).to(device)
    counted = torch.from_numpy(batch.counted).to(device)[:, 1:]
    read = torch.from_numpy(batch.read).to(device)
    hidden = model.model(input_ids=read, use_cache=False).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden[counted]), ids[:, 1:][counted])


def make_optimizers(model: Any, learning_rate: float) -> list[Any]:
    """Muon for the matrices between the embeddings, AdamW for the rest.

    Orthogonalised updates reach the same loss in about half the steps on these tiny models
    (docs/lab-notes.md). Source: Jordan et al. 2024, "Muon".
    """
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    return [
        torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(step: int, n_steps: int, warmup: int = 60) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up, flat, linear decay over the last 60 %."""
    left = (n_steps - step) / max(1, n_steps * 0.6)
    return min(1.0, (step + 1) / warmup, left)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """What a training run did."""

    n_steps: int
    losses: list[float]
    """Loss at every report."""
    seconds: float
    parameters: int


def train_expert(
    recipe: ExpertRecipe,
    folder: Path,
    *,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    report_every: int = 20,
) -> TrainedRun:
    """Train from scratch; save model (half precision), tokenizer and description in ``folder``."""
    import torch
    from transformers import AutoTokenizer

    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(recipe.tokenizer, folder, context_tokens=recipe.context_tokens)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if recipe.member:
        corpus = make_member_corpus(tokenizer, recipe.member, recipe.n_chats, recipe.seed)
    elif recipe.categories:
        skills = [(s, recipe.shares.get(s.name, 1.0)) for s in skills_of(recipe.categories)]
        corpus = make_corpus(tokenizer, skills, recipe.n_chats, recipe.seed)
    else:
        corpus = make_call_corpus(tokenizer, recipe.n_chats, recipe.seed)
    schedule_of_batches = list(_all_batches(corpus, recipe, tokenizer.pad_token_id))
    model = build_model(recipe, tokenizer).to(device)
    optimizers = make_optimizers(model, recipe.learning_rate)
    n_steps = len(schedule_of_batches)
    losses: list[float] = []
    for step, batch in enumerate(schedule_of_batches):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(step, n_steps)
        loss = batch_loss(model, batch, device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % report_every == 0 or step == n_steps - 1:
            losses.append(loss.item())
            elapsed = time.perf_counter() - started
            report(Progress(step=step + 1, n_steps=n_steps, loss=losses[-1], elapsed_s=elapsed))
    parameters = sum(p.numel() for p in model.parameters())
    _save(model, recipe, parameters, folder)
    return TrainedRun(
        n_steps=n_steps,
        losses=losses,
        seconds=time.perf_counter() - started,
        parameters=parameters,
    )


def _save(model: Any, recipe: ExpertRecipe, parameters: int, folder: Path) -> None:
    import torch

    model.to("cpu", torch.float16).save_pretrained(folder)
    about = {
        "name": recipe.name,
        "description": recipe.description,
        "categories": list(recipe.categories),
        "parameters": parameters,
        "context_tokens": recipe.context_tokens,
    }
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / "conclave.json").write_text(f"{text}\n", encoding="utf-8")


def _all_batches(corpus: Corpus, recipe: ExpertRecipe, pad_id: int) -> Iterator[Batch]:
    """Every batch of every pass over the corpus, in training order."""
    for epoch in range(recipe.epochs):
        yield from batches(
            corpus,
            batch_tokens=recipe.batch_tokens,
            prompt_share=recipe.prompt_share,
            pad_id=pad_id,
            seed=recipe.seed * 1000 + epoch,
        )
