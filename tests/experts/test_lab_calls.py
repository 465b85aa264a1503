"""The tool caller's training text: what it copies is there, splits are clean, templates agree."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from experts.lab.calls.chat import pieces_of
from experts.lab.calls.kinds import GROUPS, texts_of, tool_kinds
from experts.lab.calls.offers import NO_TOOL, CallChat, draw_chat
from experts.lab.corpus import CALL_NOISE, make_call_corpus
from experts.lab.questions.grammar import Split
from experts.lab.tokenizers import save_tokenizer
from experts.tool_formats import format_of, read_text
from experts.values import Arm, Call, Sampling


def drawn(split: Split, n: int = 150) -> list[CallChat]:
    rng = Random(5)
    return [draw_chat(rng, split, n_turns=3, noise=CALL_NOISE) for _ in range(n)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer("calls", folder, context_tokens=1024)
    return AutoTokenizer.from_pretrained(folder)


def test_calls_name_an_offered_tool_and_all_that_it_requires() -> None:
    for chat in drawn("train"):
        offered = {t["function"]["name"]: t["function"]["parameters"] for t in chat.tools}
        assert len(offered) == len(chat.tools)
        for turn in chat.turns:
            if not turn.name:
                assert turn.said == NO_TOOL
                continue
            schema = offered[turn.name]
            assert set(schema["required"]) <= set(turn.arguments) <= set(schema["properties"])
            for name, value in turn.arguments.items():
                assert value in schema["properties"][name].get("enum", [value])


def test_handles_are_copied_from_the_question() -> None:
    wireless = {k.key for k in tool_kinds("wireless")}
    turns = [t for chat in drawn("train") for t in chat.turns if t.kind in wireless and t.name]
    assert len(turns) > 100
    for turn in turns:
        [handle] = turn.arguments.values()
        assert handle in turn.question


def test_said_calls_are_read_back() -> None:
    for chat in drawn("val", 60):
        for turn in chat.turns:
            extra = (("tools", json.dumps(list(chat.tools))),)
            call = Call(query_id="q", arm=Arm("x"), messages=(), sampling=Sampling(extra=extra))
            text, calls = read_text(turn.said, "hermes", list(chat.tools), call)
            assert [c.name for c in calls] == ([turn.name] if turn.name else [])
            if turn.name:
                assert json.loads(calls[0].arguments) == turn.arguments
            else:
                assert text == NO_TOOL


def test_held_out_kinds_and_texts_never_meet_training() -> None:
    trained = {t["function"]["name"] for chat in drawn("train", 400) for t in chat.tools}
    for group in GROUPS:
        for kind in tool_kinds(group):
            if kind.split in ("val", "test"):
                assert not trained & {p.text for p in kind.names}, kind.key
    for kind in tool_kinds("wireless"):
        for held_out in ("val", "test"):
            wordings = texts_of(kind, held_out).wordings
            assert wordings, kind.key
            assert not set(wordings) & set(texts_of(kind, "train").wordings)


def test_the_jinja_template_says_what_training_saw(tokenizer: Any) -> None:
    for chat in drawn("train", 80):
        messages: list[dict[str, Any]] = []
        for turn in chat.turns:
            messages.append({"role": "user", "content": turn.question})
            if turn.name:
                function = {"name": turn.name, "arguments": dict(turn.arguments)}
                call = {"id": "c", "type": "function", "function": function}
                messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            else:
                messages.append({"role": "assistant", "content": turn.said})
            if turn.result:
                messages.append({"role": "tool", "content": turn.result, "tool_call_id": "c"})
                messages.append({"role": "assistant", "content": turn.answer})
        text = tokenizer.apply_chat_template(messages, tools=list(chat.tools), tokenize=False)
        assert text == "".join(piece for piece, _ in pieces_of(chat))


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ({"name": "now"}, "<|tool|><|name|>now()"),
        ({"name": "f", "description": "Does f. Never g.\nMore.", "parameters": {}},
         "<|tool|>Does f<|name|>f()"),
        ({"name": "f", "description": None, "parameters": {"properties": {
            "a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "b": {"enum": ["x", "y"]},
            "c": {"type": "array"}}, "required": ["b"]}},
         "<|tool|><|name|>f(a?:any,b:x/y,c?:anys)"),
    ],
)  # fmt: skip
def test_the_template_takes_any_schema(tokenizer: Any, function: Any, shown: str) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tools=[{"type": "function", "function": function}],
        tokenize=False,
    )  # fmt: skip
    assert text == f"{shown}<|user|>Hi<|end|>"


def test_the_corpus_teaches_only_what_the_caller_says(tokenizer: Any, tmp_path: Path) -> None:
    corpus = make_call_corpus(tokenizer, 20, seed=3)
    for i in range(len(corpus)):
        chat = slice(corpus.starts[i], corpus.starts[i + 1])
        said = tokenizer.decode(corpus.ids[chat][corpus.said[chat]])
        assert said.endswith("<|end|>")
        assert "<|tool|>" not in said
        assert "<|user|>" not in said
    tokenizer.save_pretrained(tmp_path)
    assert format_of(tmp_path) == "hermes"
