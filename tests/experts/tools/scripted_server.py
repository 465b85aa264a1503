"""An MCP server that does what tests want: ``python scripted_server.py FOLDER [LISTING]``.

Standard library only, so that it starts at once. It speaks the protocol by hand, because the SDK's
server would not lie. In FOLDER it appends every tool call to ``calls``; a file ``LISTING`` replaces
its tools.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING = {"type": "object", "properties": {}}
READ_ONLY = {"readOnlyHint": True}
TWO = {
    "type": "object",
    "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
SUM = {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
TOOLS: list[dict[str, Any]] = [
    {"name": "echo", "description": "Says it again.", "inputSchema": TEXT,
     "annotations": READ_ONLY},
    {"name": "add", "description": "Adds.", "inputSchema": TWO, "outputSchema": SUM},
    {"name": "lie", "description": "Promises a sum.", "inputSchema": TWO, "outputSchema": SUM},
    {"name": "hang", "description": "", "inputSchema": TEXT},
    {"name": "die", "description": "Dies.", "inputSchema": TEXT},
    {"name": "die_once", "description": "Dies once.", "inputSchema": TEXT,
     "annotations": READ_ONLY},
    {"name": "big", "description": "Says so many bytes.", "inputSchema": TEXT},
    {"name": "big_id_last", "description": "As big.", "inputSchema": TEXT},
    {"name": "fail", "description": "Fails.", "inputSchema": TEXT},
    {"name": "environment", "description": "Its variables.", "inputSchema": NOTHING},
    {"name": "picture", "description": "No text.", "inputSchema": NOTHING},
    {"name": "noise", "description": "Says much besides.", "inputSchema": TEXT},
    {"name": "fetch", "description": "Would fetch.", "inputSchema": {
        "type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}},
]  # fmt: skip


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **more}


def called(name: str, arguments: dict[str, Any], number: object) -> dict[str, Any] | None:
    with (FOLDER / "calls").open("a") as file:
        file.write(json.dumps([name, arguments]) + "\n")
    said = str(arguments.get("text", ""))
    if name == "hang":
        if said == "for ever":  # not even pings are answered
            time.sleep(3600)
        return None
    if name == "die" or (name == "die_once" and not (FOLDER / "died").exists()):
        (FOLDER / "died").touch()
        sys.stderr.write("I am tired\n")
        sys.stderr.flush()
        os._exit(3)
    if name == "big_id_last":
        sys.stdout.write('{"result":{"content":[{"type":"text","text":"')
        for _ in range(int(said) // 1000):
            sys.stdout.write("x" * 1000)
        sys.stdout.write(f'"}}]}},"jsonrpc":"2.0","id":{number}}}\n')
        sys.stdout.flush()
        return None
    if name == "noise":
        sys.stdout.write("this is no JSON\n\n")
        for i in range(200):
            say({"jsonrpc": "2.0", "method": "notifications/message",
                 "params": {"level": "info", "data": "x" * 1000 + str(i)}})  # fmt: skip
        say({"jsonrpc": "2.0", "id": 999_999, "result": text("nobody asked")})
    image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
    return {
        "add": lambda: text("", structuredContent={"sum": arguments["a"] + arguments["b"]}),
        "lie": lambda: text("5", structuredContent={"sum": "five"}),
        "big": lambda: text("x" * int(said)),
        "fail": lambda: text(f"no luck with {said}", isError=True),
        "environment": lambda: text(json.dumps(dict(os.environ))),
        "picture": lambda: {"content": [image]},
    }.get(name, lambda: text(said))()


def main() -> None:
    tools = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else TOOLS
    with (FOLDER / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if number is None:
            continue
        if method == "initialize":
            result = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
            }
        elif method == "tools/list":
            result = {"tools": tools}
        elif method == "tools/call":
            done = called(message["params"]["name"], message["params"]["arguments"], number)
            if done is None:
                continue
            result = done
        else:
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "what?"}})
            continue
        say({"jsonrpc": "2.0", "id": number, "result": result})


if __name__ == "__main__":
    main()
