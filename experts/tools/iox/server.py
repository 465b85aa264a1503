"""The classifiers as an MCP server: ``python -m experts.tools.iox.server [--folder ARRAYS]``.

Speaks over standard input and output. Channels are named by handles; their arrays stay in this
process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experts.tools.iox.attributes import ATTRIBUTES, Attribute
from experts.tools.iox.channels import MAX_SEED, N_DELAYS, N_TIMES
from experts.tools.iox.channels import simulate as simulate_channel
from experts.tools.iox.classifiers import load_classifiers
from experts.tools.iox.store import ChannelStore, StoreRefusal
from experts.tools.servers.serving import run

INSTRUCTIONS = (
    "Judges wireless channels. Make a channel with `simulate` or bring an array with "
    "`load_channel`; both give a handle such as H3. Every other tool takes a handle and answers "
    "with a label and the probability that it is right."
)
_SAID = "Returns a label and the probability that it is right."


def make_server(store: ChannelStore) -> Any:
    """An MCP server (of the official SDK) on this store."""
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import ToolAnnotations
    from pydantic import BaseModel, Field

    class Judged(BaseModel):
        """What a classifier says."""

        label: str
        probability: float = Field(description="That the label is right; calibrated")
        strangeness: float = Field(
            description="About 1 for channels like those of the training; above 3 do not trust it"
        )

    class Kept(BaseModel):
        """A channel in the store."""

        channel: str = Field(description="Its handle")
        n_times: int
        n_delays: int
        carrier_ghz: float

    server = MCPServer("iox", instructions=INSTRUCTIONS, log_level="ERROR")
    looks = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    keeps = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)

    def judging(a: Attribute) -> Callable[[str], Judged]:
        def judge(channel: str) -> Judged:
            try:
                found = store.get(channel)
            except StoreRefusal as error:
                raise ToolError(str(error)) from None
            said = load_classifiers()[a.name].judge(found)
            return Judged(
                label=said.label,
                probability=round(said.probability, 4),
                strangeness=round(said.strangeness, 2),
            )

        # The SDK reads annotations by name, and Judged is known in this function only.
        judge.__annotations__ = {"channel": str, "return": Judged}
        return judge

    for a in ATTRIBUTES:
        server.add_tool(
            judging(a),
            name=a.name,
            description=f"{a.description} {_SAID}",
            annotations=looks,
            structured_output=True,
        )

    def kept(handle: str) -> Kept:
        channel = store.get(handle)
        return Kept(
            channel=handle, n_times=N_TIMES, n_delays=N_DELAYS, carrier_ghz=channel.carrier_ghz
        )

    def simulate(seed: int) -> Kept:
        if not 0 <= seed <= MAX_SEED:
            raise ToolError(f"seed is {seed}; it has to be in [0, {MAX_SEED}].")
        channel, _ = simulate_channel(seed)
        return kept(store.put(channel))

    def load_channel(name: str, carrier_ghz: float) -> Kept:
        try:
            return kept(store.load(name, carrier_ghz))
        except StoreRefusal as error:
            raise ToolError(str(error)) from None

    simulate.__annotations__ = {"seed": int, "return": Kept}
    load_channel.__annotations__ = {"name": str, "carrier_ghz": float, "return": Kept}
    told = (
        (simulate, "Simulates a wireless channel from a seed and gives its handle."),
        (load_channel, "Loads a measured channel from the server's folder and gives its handle."),
    )
    for function, description in told:
        server.add_tool(
            function, description=description, annotations=keeps, structured_output=True
        )
    return server


def main() -> None:
    """Serve until standard input is closed."""
    parser = argparse.ArgumentParser(prog="python -m experts.tools.iox.server")
    parser.add_argument(
        "--folder", type=Path, help="where load_channel finds NAME.npy; nowhere by default"
    )
    arguments = parser.parse_args()
    if arguments.folder is not None and not arguments.folder.is_dir():
        parser.error(f"--folder: {arguments.folder} is no folder")
    run(make_server(ChannelStore(arguments.folder)))


if __name__ == "__main__":
    main()
