"""A program with a vLLM's HTTP surface, and every way to fail; it is run as a process of its own.

Standard library only, so that it is up in a twentieth of a second. What it answers is in
``answers.json`` of the model folder: token ids by token ids, joined by commas. To prompts that are
not there it says something that depends on the folder's name alone, as other weights would. Faults
are files in the folder that SCRIPTED_FAULTS names; each happens once, and its file goes.

Like a vLLM's, its prefix cache knows adapters by name and folder and the base not at all, so until
it is reset it answers as before, also when other weights were put in place; and what it kept before
it slept is nonsense afterwards.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

END_ID = 1
LOGPROB = -0.25
KEPT_S = float(os.environ.get("SCRIPTED_KEPT_S", "inf"))
"""Idle connections are hung up on after it, at the worst of moments: when they are used again."""
TENSORS = ["model.norm.weight"]
if "SCRIPTED_SEES_LAYERS" in os.environ:
    TENSORS.append("model.layers.0.self_attn.o_proj.weight")


def strikes(fault: str) -> bool:
    """Whether a fault was ordered; once."""
    try:
        (Path(os.environ["SCRIPTED_FAULTS"]) / fault).unlink()
    except FileNotFoundError:
        return False
    return True


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def crash(why: str) -> None:
    say(f"ERROR {why}")
    os._exit(1)


class Engine:
    def __init__(self, arguments: dict[str, str]) -> None:
        self.name, self.folder = arguments["--served-model-name"], Path(arguments["--model"])
        self.adapters: dict[str, Path] = {}
        self.awake, self.n_tokens, self.sleep_level = True, 0, 0
        self.prefix_cache: dict[tuple, list[int]] = {}
        self.going = asyncio.Event()
        self.going.set()

    # Routes: (status, body), or None when the body was streamed.

    async def answer(self, path: str, query: dict, body: dict, writer) -> tuple[int, object] | None:
        if path == "/health":
            return 200, ""
        if path == "/v1/models":
            served = {self.name: self.folder, **self.adapters}
            return 200, {"data": [{"id": k, "root": str(v)} for k, v in served.items()]}
        if path == "/v1/completions":
            return await self.complete(body, writer)
        if path == "/metrics":
            return 200, f'vllm:generation_tokens_total{{engine="0"}} {float(self.n_tokens)}\n'
        if path == "/pause":
            assert query["mode"] == ["wait"], "requests would be aborted"
            self.going.clear()
        elif path == "/is_paused":
            return 200, {"is_paused": not self.going.is_set()}
        elif path == "/resume":
            self.going.set()
        elif path == "/collective_rpc":
            if strikes("hang_in_swap"):
                await asyncio.sleep(600)
            return self.reload(body)
        elif path == "/weight_checker":
            names = () if self.sleep_level == 2 else TENSORS
            return 200, {"checksums": {f"dp0:tp0:{n}": self.digest(n) for n in names}}
        elif path == "/sleep":
            assert query["mode"] == ["wait"], "requests would be aborted"
            self.awake, self.sleep_level = False, int(query["level"][0])
            for key in self.prefix_cache:
                self.prefix_cache[key] = [0] * 9
        elif path == "/wake_up":
            self.awake = "tags" not in query or query["tags"] == ["kv_cache"]
        elif path == "/is_sleeping":
            return 200, {"is_sleeping": not self.awake}
        elif path == "/v1/load_lora_adapter":
            self.adapters[body["lora_name"]] = Path(body["lora_path"])
        elif path == "/v1/unload_lora_adapter":
            del self.adapters[body["lora_name"]]
        elif path == "/reset_prefix_cache":
            self.prefix_cache.clear()
            return 200, {"success": True}
        else:
            return 404, {"error": {"message": f"no route {path}"}}
        return 200, {}

    def reload(self, body: dict) -> tuple[int, object]:
        if strikes("crash_in_swap"):
            crash("died in the middle of a swap")
        if strikes("refuse_swap"):
            return 500, {"error": {"message": "Call to collective_rpc method failed"}}
        if not strikes("stale_swap"):
            self.folder = Path(body["kwargs"].get("weights_path", self.folder))
            self.sleep_level = 0
        return 200, {"results": [None]}

    async def complete(self, body: dict, writer) -> tuple[int, object] | None:
        await self.going.wait()
        while not self.awake:
            await asyncio.sleep(60)
        ids, told = self.say(body), self.told(body)
        if "poison" in told:
            crash("this prompt kills")
        if told:  # the fleet's own questions are answered
            self.note(body)
            if strikes("crash_in_call"):
                crash("died in the middle of a call")
            if strikes("refuse_call"):
                return 400, {"error": {"message": "I do not like it"}}
            if strikes("fail_call"):
                return 500, {"error": {"message": "Try again"}}
            if strikes("nan_in_call"):
                if not body.get("stream"):
                    return 500, {
                        "error": {
                            "message": "Out of range float values are not JSON compliant: nan"
                        }
                    }
                start_stream(writer)
                send(writer, chunk(ids[:1], logprob=None))
                return None
        if told and strikes("hang_in_call"):
            if body.get("stream"):
                start_stream(writer)
                send(writer, chunk(ids[:1]))
            await asyncio.sleep(600)
        if not body.get("stream"):
            if told:
                await asyncio.sleep(float(os.environ.get("SCRIPTED_CALL_S", "0")))
            self.n_tokens += len(ids)
            return 200, chunk(ids, "stop", body["logprobs"])
        start_stream(writer)
        for i, token in enumerate(ids):
            if i == 1 and strikes("crash_in_stream"):
                await writer.drain()
                crash("died in the middle of a stream")
            self.n_tokens += 1
            send(writer, chunk([token], "stop" if i == len(ids) - 1 else None))
            await asyncio.sleep(0)
        writer.write(b"data: [DONE]\n\n")
        return None

    def note(self, body: dict) -> None:
        """What was asked, where a test wants to know."""
        path = Path(os.environ["SCRIPTED_FAULTS"]).with_name("asked.jsonl")
        if path.exists():
            with path.open("a") as file:
                file.write(json.dumps(body) + "\n")

    def answers_of(self, model: str) -> tuple[str, dict[str, list[int]]]:
        folder = self.adapters.get(model, self.folder)
        path = folder / "answers.json"
        return folder.name, json.loads(path.read_text()) if path.exists() else {}

    def told(self, body: dict) -> list:
        _, answers = self.answers_of(body["model"])
        return answers.get(",".join(map(str, body["prompt"])), [])

    def say(self, body: dict) -> list[int]:
        name, _ = self.answers_of(body["model"])
        known = self.told(body)
        ids = [*known, END_ID] if known else [zlib.crc32(name.encode()) % 900 + i for i in range(9)]
        adapter = self.adapters.get(body["model"])
        key = (body["model"] if adapter else "", adapter, *body["prompt"])
        return self.prefix_cache.setdefault(key, ids)[: body["max_tokens"]]

    def digest(self, name: str) -> str:
        path = next(self.folder.glob("*.safetensors"))
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            start, end = json.loads(file.read(length))[name]["data_offsets"]
            file.seek(8 + length + start)
            return hashlib.sha256(file.read(end - start)).hexdigest()


def chunk(
    ids: list[int],
    finish: str | None = None,
    n_top: int = 0,
    logprob: float | None = LOGPROB,
) -> dict:
    # Like a vLLM's: the token itself, and the likeliest, which may be others.
    tops = [{f"token_id:{i + j}": LOGPROB * (1 + j) for j in range(n_top + 1)} for i in ids]
    choice = {
        "token_ids": ids,
        "logprobs": {"token_logprobs": [logprob] * len(ids), "top_logprobs": tops},
        "finish_reason": finish,
    }
    return {"choices": [choice]}


def start_stream(writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")


def send(writer, body: dict) -> None:
    writer.write(f"data: {json.dumps(body)}\n\n".encode())


async def serve(engine: Engine, reader, writer) -> None:
    idle_since = time.monotonic()
    try:
        while line := await reader.readline():
            if time.monotonic() - idle_since > KEPT_S:  # just now, as luck has it
                break
            _, target, _ = line.decode().split()
            length = 0
            while (header := await reader.readline()) not in (b"\r\n", b""):
                key, _, value = header.decode().partition(":")
                length = int(value) if key.lower() == "content-length" else length
            body = json.loads(await reader.readexactly(length) or b"{}")
            url = urlsplit(target)
            result = await engine.answer(url.path, parse_qs(url.query), body, writer)
            if result is None:
                break
            status, said = result
            data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            await writer.drain()
            idle_since = time.monotonic()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    say(f"scripted engine: {sys.argv[1:]}")
    if "VLLM_API_KEY" in os.environ:
        crash("nobody will be answered who has no key")
    if strikes("crash_at_start"):
        crash("torch.OutOfMemoryError: CUDA out of memory")
    if strikes("hang_at_start"):
        await asyncio.sleep(600)
    while (Path(os.environ["SCRIPTED_FAULTS"]) / "hold_at_start").exists():
        await asyncio.sleep(0.01)
    # A vLLM is several processes: none may be left.
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    engine = Engine(arguments)
    server = await asyncio.start_server(
        lambda r, w: serve(engine, r, w), arguments["--host"], int(arguments["--port"])
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
