"""Exact-match accuracy of model folders on the laboratory's questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from experts.lab.questions import SKILLS, LabQuestion, LabSkill, Split, draw_question
from experts.lab.tokenizers import chat_text
from experts.local.decode import decode
from experts.values import Sampling


def question_set(
    n: int, seed: int, split: Split, *, held_out_wording: bool, skills: Sequence[LabSkill] = SKILLS
) -> list[LabQuestion]:
    """``n`` questions of each skill."""
    rng = Random(f"{seed}/{split}/{held_out_wording}")
    return [
        draw_question(skill, rng, split, held_out_wording=held_out_wording)
        for skill in skills
        for _ in range(n)
    ]


def load_model(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def answers(model: Any, tokenizer: Any, questions: Sequence[str], batch: int = 256) -> list[str]:
    """Greedy answers, in order."""
    texts: list[str] = []
    end = frozenset({tokenizer.eos_token_id})
    for i in range(0, len(questions), batch):
        prompts = [
            tokenizer(chat_text([("user", q)]), add_special_tokens=False)["input_ids"]
            for q in questions[i : i + batch]
        ]
        out: list[list[int]] = [[] for _ in prompts]
        sampling = [Sampling(max_tokens=96)] * len(prompts)
        for step in decode(model, prompts, sampling, end_ids=end, pad_id=tokenizer.pad_token_id):
            for token in step:
                if token.token_id not in end:
                    out[token.row].append(token.token_id)
        texts += [tokenizer.decode(ids) for ids in out]
    return texts
