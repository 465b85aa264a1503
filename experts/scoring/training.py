"""Train a scorer: let the frozen model answer, listen, and fit a net to which answers were right.

The model answers greedily, in batches; nothing of it is trained. The net is fitted on some of the
answers, stopped when it no longer gets better on the others, and calibrated there (Platt 1999:
scale and shift of the log-odds).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experts.errors import DataError
from experts.local.brain import import_model_code
from experts.local.chat_tokenizer import ChatTokenizer
from experts.local.decode import ModelSteps, decode
from experts.local.fingerprint import weights_fingerprint
from experts.scoring.card import ScorerCard
from experts.scoring.pooling import Pool, listening, n_features
from experts.scoring.scorer import AnswerScorer, ScorerNet
from experts.values import Call, Sampling

_N_ROWS = 64
_MAX_EPOCHS, _PATIENCE, _BATCH = 200, 8, 256
_RATE, _DECAY = 2e-3, 0.1
_LEAST_OF_EACH = 10
"""Right and wrong answers, to fit and to calibrate on: fewer say nothing."""


@dataclass(frozen=True)
class Answers:
    """What a model said, and what that looked like from inside."""

    texts: list[str]
    features: torch.Tensor
    """(n, n_features), behind the last token."""
    logprob: torch.Tensor
    """(n,): of the whole text."""


def answers_from_inside(
    folder: Path,
    calls: Sequence[Call],
    *,
    device: str = "cpu",
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Answers:
    """Answers to calls, in their order. Raises DataError for a question that is too long, and
    ValueError for what a chat template refuses."""
    from transformers import AutoModelForCausalLM

    import_model_code(folder)
    tokenizer = ChatTokenizer(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True
    )
    model.to(device).eval()
    prompts = [tokenizer.encode(call) for call in calls]
    samplings = [
        _with_room(call, len(prompt), model.config.max_position_embeddings, folder.name)
        for call, prompt in zip(calls, prompts, strict=True)
    ]
    # Of about one length: rows are padded to the longest of their batch.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    ids: list[list[int]] = [[] for _ in prompts]
    features = torch.zeros(len(prompts), n_features(model.config.hidden_size))
    logprob = torch.zeros(len(prompts))
    for start in range(0, len(order), _N_ROWS):
        rows = order[start : start + _N_ROWS]
        steps = ModelSteps(model, [prompts[i] for i in rows], pad_id=tokenizer.pad_id)
        pool = Pool(len(rows), model.config.hidden_size)
        with listening(model) as heard:
            for tokens in decode(steps, [samplings[i] for i in rows], end_ids=tokenizer.end_ids):
                found = pool.add(tokens, heard.states.cpu())
                for token, one in zip(tokens, found, strict=True):
                    row = rows[token.row]
                    ids[row].append(token.token_id)
                    features[row] = one
                    logprob[row] += token.logprob
        tell(start + len(rows), len(order))
    return Answers([tokenizer.decode(row) for row in ids], features, logprob)


def _with_room(call: Call, n_read: int, longest: int, name: str) -> Sampling:
    if n_read >= longest:
        raise DataError(
            f"{call.messages[-1].content[:60]!r} has {n_read} tokens, and {name} reads {longest}, "
            "its answer included."
        )
    return replace(call.sampling, max_tokens=min(call.sampling.max_tokens, longest - n_read))


def fit_scorer(
    folder: Path,
    features: torch.Tensor,
    right: torch.Tensor,
    held: torch.Tensor,
    *,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> AnswerScorer:
    """The scorer of the model in ``folder``. features: (n, n_features); right: (n,) in [0, 1];
    held: (n,) bool, what to stop and to calibrate by. about: more for its card.

    Raises DataError where right or wrong answers are too few to learn from.
    """
    for part, name in ((~held, "fit"), (held, "calibrate")):
        n_right = int((right[part] > 0.5).sum())
        n_wrong = int(part.sum()) - n_right
        if min(n_right, n_wrong) < _LEAST_OF_EACH:
            raise DataError(
                f"To {name} a scorer, at least {_LEAST_OF_EACH} right and as many wrong answers "
                f"are needed; here are {n_right} right and {n_wrong} wrong. Ask more questions, "
                "harder or easier ones."
            )
    width = (features.shape[1] - n_features(0)) // 2
    with torch.random.fork_rng():
        net = _fitted(features, right, held, width, seed)
    _calibrate(net, features[held], right[held])
    card = ScorerCard(
        weights=weights_fingerprint(folder),
        width=width,
        trained={
            "n_fitted": int((~held).sum()),
            "n_calibrated": int(held.sum()),
            "right_share": round(float(right.mean()), 4),
            "seed": seed,
            **(about or {}),
        },
    )
    return AnswerScorer(card, net)


def _fitted(
    features: torch.Tensor, right: torch.Tensor, held: torch.Tensor, width: int, seed: int
) -> ScorerNet:
    torch.manual_seed(seed)  # of dropout, too
    net = ScorerNet(width)
    x, y = features[~held], right[~held]
    net.centre.copy_(x.mean(0))
    net.scale.copy_(x.std(0).clamp(min=1e-4))
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
    shuffle = torch.Generator().manual_seed(seed)
    best, best_loss, since = copy.deepcopy(net.state_dict()), float("inf"), 0
    for _ in range(_MAX_EPOCHS):
        net.train()
        for rows in torch.split(torch.randperm(len(x), generator=shuffle), _BATCH):
            loss = _loss(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        net.eval()
        with torch.no_grad():
            now = float(_loss(net(features[held]), right[held]))
        since += 1
        if now < best_loss:
            best, best_loss, since = copy.deepcopy(net.state_dict()), now, 0
        if since >= _PATIENCE:
            break
    net.load_state_dict(best)
    return net


def _calibrate(net: ScorerNet, features: torch.Tensor, right: torch.Tensor) -> None:
    with torch.no_grad():
        raw = net(features)
    fitted = net.calibration.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([fitted], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(raw * fitted[0] + fitted[1], right)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    net.calibration.copy_(fitted.detach())


def _loss(odds: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(odds, right)
