"""What tools are worth: a language model alone, with tools, tools without it, and the best choice.

Every tool call goes over MCP, to the server that ships. Questions differ in wording, channel and
attribute; figures come with 95 % intervals over questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.iox.choosers import Choice, Chooser, ModelChooser
from eval.iox.questions import ChannelQuestion, HeldOut, distractors, shuffled
from eval.metrics.reliability import ece
from eval.statistics import Estimate, mean_estimate, wilson_interval
from experts.answers import extract_answer
from experts.expert import Expert
from experts.tools.iox.attributes import ATTRIBUTES, attribute
from experts.tools.iox.server import make_server
from experts.tools.iox.store import ChannelStore, StoreLimits
from experts.values import Arm, Call, Message, Sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierFigures:
    """One classifier on channels that it never saw."""

    name: str
    n: int
    """Questions about its attribute."""
    accuracy: Estimate
    majority: float
    """Accuracy of always saying the most frequent label."""
    ece: float
    """Of the probability of the label that it says, 15 bins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodFigures:
    """One way of answering, with or without distractors on offer."""

    method: str
    distractors: bool
    accuracy: Estimate
    lift: Estimate | None
    """Accuracy above that of the language model alone, paired; None for itself."""
    above_floor: Estimate | None
    """Accuracy above that of saying the most frequent label of the right attribute, paired: what a
    model that understood all questions and had no tools could guess."""
    choice: Estimate | None = None
    """The right tool was chosen."""
    call: Estimate | None = None
    """The right tool with the right arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IoxFigures:
    """The whole experiment."""

    split: str
    n: int
    classifiers: tuple[ClassifierFigures, ...]
    methods: tuple[MethodFigures, ...]


async def run_iox(
    questions: Sequence[ChannelQuestion],
    split: HeldOut,
    *,
    llm: Expert,
    choosers: Mapping[str, Chooser],
) -> IoxFigures:
    """llm: is asked without tools; choosers: by the name of the method."""
    from mcp import Client

    limits = StoreLimits(max_count=len(questions) + 1, max_bytes=1 << 30)
    async with Client(make_server(ChannelStore(limits=limits))) as server:
        tools = [_as_openai(tool) for tool in (await server.list_tools()).tools]
        handles = [
            (await server.call_tool("simulate", {"seed": q.seed})).structured_content["channel"]
            for q in questions
        ]
        asked = [q.asked(handle) for q, handle in zip(questions, handles, strict=True)]
        right = [
            Choice(name=q.attribute, arguments={"channel": handle})
            for q, handle in zip(questions, handles, strict=True)
        ]
        best = await _called(server, right)
        alone = await _alone(llm, questions, asked)
        floor = _most_frequent(questions)
        methods = [
            _figures("most frequent label", questions, floor, alone, floor, with_distractors=False),
            _figures("LLM alone", questions, alone, None, floor, with_distractors=False),
        ]
        for is_distracted in (False, True):
            offered = [*tools, *(distractors(split) if is_distracted else [])]
            offers = [shuffled(offered, f"{q.seed}") for q in questions]
            for name, chooser in choosers.items():
                chosen = await chooser.choose(asked, offers)
                results = await _called(server, chosen)
                if isinstance(chooser, ModelChooser):
                    said = await chooser.answers(asked, offers, chosen, [r.text for r in results])
                else:
                    said = [r.label for r in results]
                methods.append(
                    _figures(
                        name,
                        questions,
                        said,
                        alone,
                        floor,
                        chosen,
                        right,
                        with_distractors=is_distracted,
                    )
                )
        methods.append(
            _figures(
                "best choice of tool",
                questions,
                [r.label for r in best],
                alone,
                floor,
                with_distractors=False,
            )
        )
    return IoxFigures(
        split=split,
        n=len(questions),
        classifiers=tuple(_classifier(a.name, questions, best) for a in ATTRIBUTES),
        methods=tuple(methods),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Result:
    text: str
    label: str = ""
    probability: float = 0.0


async def _called(server: Any, chosen: Sequence[Choice]) -> list[_Result]:
    """What the tools say; a tool of another field knows nothing of channels, so it is not asked."""
    results = []
    known = {a.name for a in ATTRIBUTES}
    for choice in chosen:
        if choice.name not in known:
            results.append(_Result(text='{"error": "not a channel"}'))
            continue
        said = await server.call_tool(choice.name, dict(choice.arguments))
        if said.is_error:
            results.append(_Result(text=json.dumps({"error": said.content[0].text})))
            continue
        told = said.structured_content
        text = json.dumps({"label": told["label"], "probability": told["probability"]})
        results.append(_Result(text=text, label=told["label"], probability=told["probability"]))
    return results


async def _alone(
    llm: Expert, questions: Sequence[ChannelQuestion], asked: Sequence[str]
) -> list[str]:
    """Answers of a model that has no tools, and is told the labels."""
    calls = [
        Call(
            query_id=f"iox-alone-{i}",
            arm=Arm(llm.card.name),
            messages=(Message(role="user", content=_with_labels(text, q.attribute)),),
            sampling=Sampling(max_tokens=32),
        )
        for i, (q, text) in enumerate(zip(questions, asked, strict=True))
    ]
    return [extract_answer(said.text) for said in await llm.complete(calls)]


def _with_labels(question: str, name: str) -> str:
    *first, last = attribute(name).labels
    return f"{question} Answer {', '.join(first)} or {last}."


def _as_openai(tool: Any) -> Mapping[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description or "",
            "parameters": tool.input_schema,
        },
    }


def _figures(
    method: str,
    questions: Sequence[ChannelQuestion],
    said: Sequence[str],
    alone: Sequence[str] | None,
    floor: Sequence[str],
    chosen: Sequence[Choice] = (),
    right: Sequence[Choice] = (),
    *,
    with_distractors: bool,
) -> MethodFigures:
    scores = _scores(questions, said)
    choice = call = None
    if chosen:
        pairs = list(zip(chosen, right, strict=True))
        choice = _share([c.name == r.name for c, r in pairs])
        call = _share([c.name == r.name and c.arguments == r.arguments for c, r in pairs])
    return MethodFigures(
        method=method,
        distractors=with_distractors,
        accuracy=_share(scores.astype(bool)),
        lift=None if alone is None else mean_estimate(scores - _scores(questions, alone)),
        above_floor=None if said is floor else mean_estimate(scores - _scores(questions, floor)),
        choice=choice,
        call=call,
    )


def _scores(questions: Sequence[ChannelQuestion], said: Sequence[str]) -> np.ndarray:
    return np.array(
        [float(s.strip().lower() == q.label) for q, s in zip(questions, said, strict=True)]
    )


def _share(flags: Sequence[bool] | np.ndarray) -> Estimate:
    n, k = len(flags), int(np.sum(flags))
    return Estimate(value=k / max(1, n), ci=wilson_interval(k, n))


def _classifier(
    name: str, questions: Sequence[ChannelQuestion], best: Sequence[_Result]
) -> ClassifierFigures:
    mine = [(q, r) for q, r in zip(questions, best, strict=True) if q.attribute == name]
    asked = [q for q, _ in mine]
    right = np.array([float(q.label == r.label) for q, r in mine])
    sure = np.array([r.probability for _, r in mine])
    return ClassifierFigures(
        name=name,
        n=len(mine),
        accuracy=_share(right.astype(bool)),
        majority=float(_scores(asked, _most_frequent(asked)).mean()) if asked else 0.0,
        ece=ece(sure, right),
    )


def _most_frequent(questions: Sequence[ChannelQuestion]) -> list[str]:
    """For each question the label that is most frequent among all of its attribute."""
    best = {}
    for a in ATTRIBUTES:
        labels = [q.label for q in questions if q.attribute == a.name]
        best[a.name] = max(a.labels, key=labels.count)
    return [best[q.attribute] for q in questions]
