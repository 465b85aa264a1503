"""The wireless Internet of Experts: the simulator keeps its formulas, the store its limits, and the
server tells labels with probabilities, over MCP as an agent speaks it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.tools.iox.attributes import ATTRIBUTES
from experts.tools.iox.channels import (
    N_DELAYS,
    N_TIMES,
    TEST_SEEDS,
    TIME_STEP_S,
    VAL_SEEDS,
    Channel,
    Scenario,
    draw_scenario,
    realise,
    simulate,
)
from experts.tools.iox.classifiers import MODELS_FILE, load_classifiers, save_classifiers
from experts.tools.iox.features import features
from experts.tools.iox.server import make_server
from experts.tools.iox.store import ChannelStore, StoreLimits, StoreRefusal

ROOT = Path(__file__).parents[2]
GOOD = simulate(TEST_SEEDS)[0]


def seeds_with(condition: Callable[[Scenario], bool], n: int) -> list[int]:
    return [s for s in range(400) if condition(draw_scenario(s))][:n]


def test_a_seed_is_one_channel_and_one_truth() -> None:
    (one, truth), (again, same) = simulate(7), simulate(7)
    assert np.array_equal(one.response, again.response)
    assert truth.labels == same.labels
    assert not np.array_equal(one.response, simulate(8)[0].response)


def test_diffuse_paths_keep_clarkes_autocorrelation() -> None:
    """J0(2 pi f t): at 0.06 of a period of the maximum Doppler it has fallen to 0.965."""
    base = replace(draw_scenario(1), propagation="rayleigh", specular_path=None, snr_db=60.0)
    quick = replace(base, carrier_ghz=2.0, speed_mps=22.5)  # 150 Hz
    lag = round(0.06 / quick.doppler_hz / TIME_STEP_S)
    found = []
    for seed in range(30):
        h = realise(quick, seed).response.astype(np.complex128)
        found.append(np.vdot(h[:-lag], h[lag:]).real / np.vdot(h, h).real)
    x = 2 * np.pi * quick.doppler_hz * lag * TIME_STEP_S
    assert np.mean(found) == pytest.approx(1 - x**2 / 4 + x**4 / 64, abs=0.02)


def test_noise_has_the_power_that_the_snr_says() -> None:
    scenario = replace(draw_scenario(3), snr_db=10.0)
    clean, noisy = realise(replace(scenario, snr_db=300.0), 3), realise(scenario, 3)
    noise = np.mean(np.abs(noisy.response - clean.response) ** 2)
    assert noise == pytest.approx(0.1, rel=0.03)


def test_a_line_of_sight_comes_first_and_a_reflection_later() -> None:
    for seed in seeds_with(lambda s: s.propagation == "direct", 20):
        assert draw_scenario(seed).specular_path == 0
        assert draw_scenario(seed).labels["line_of_sight"] == "yes"
    for seed in seeds_with(lambda s: s.propagation == "reflected", 20):
        assert draw_scenario(seed).specular_path != 0
        assert draw_scenario(seed).labels["line_of_sight"] == "no"
        assert draw_scenario(seed).labels["fading_type"] == "rician"


def test_geometry_of_the_test_is_none_that_training_had() -> None:
    def seen(first: int) -> tuple[set[float], set[int]]:
        drawn = [draw_scenario(first + i) for i in range(100)]
        return {s.carrier_ghz for s in drawn}, {len(s.delays_s) for s in drawn}

    for first in (VAL_SEEDS, TEST_SEEDS):
        for trained, held_out in zip(seen(0), seen(first), strict=True):
            assert not trained & held_out


def test_every_label_is_drawn_and_every_feature_finite() -> None:
    drawn = [draw_scenario(seed).labels for seed in range(200)]
    for a in ATTRIBUTES:
        assert {labels[a.name] for labels in drawn} == set(a.labels)
    for seed in range(20):
        assert np.isfinite(features(simulate(seed)[0])).all()


def test_features_of_awkward_arrays_are_finite() -> None:
    constant = np.zeros((N_TIMES, N_DELAYS), np.complex64)
    constant[:, 3] = 1e-20
    single = constant.copy()
    single[0, 0] = 1e18
    for response in (constant, single, np.ones((N_TIMES, N_DELAYS), np.complex64)):
        assert np.isfinite(features(Channel(response=response, carrier_ghz=2.0))).all()


def test_classifiers_are_small_plain_arrays(tmp_path: Path) -> None:
    assert MODELS_FILE.stat().st_size < 300_000
    classifiers = load_classifiers()
    save_classifiers(classifiers, tmp_path / "again.npz")
    for name, again in load_classifiers(tmp_path / "again.npz").items():
        assert again.judge(GOOD) == classifiers[name].judge(GOOD)


def test_noise_alone_is_strange_to_the_classifiers() -> None:
    tone = np.exp(2j * np.pi * 0.4 * np.arange(N_TIMES))[:, None] * np.ones((1, N_DELAYS))
    odd = Channel(response=tone.astype(np.complex64), carrier_ghz=2.4)
    snr = load_classifiers()["snr_band"]
    assert snr.judge(odd).strangeness > 2 * snr.judge(GOOD).strangeness


def array(**changes: Any) -> np.ndarray:
    made = GOOD.response.copy()
    for where, value in changes.items():
        made[int(where[1:]), 0] = value
    return made


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (array(_3=np.nan), "not finite"),
        (array(_3=complex(0, np.inf)), "not finite"),
        (array().astype(np.complex128) * 1e300, "not finite"),
        (array() * 0, "zero everywhere"),
        (array()[:, :-1], "shape is"),
        (array()[None], "shape is"),
        (np.abs(array()), "complex64"),
        (array().astype(object), "complex64"),
        ([[1, 2]], "complex64"),
    ],
)
def test_the_store_refuses_what_is_no_channel(bad: Any, said: str) -> None:
    store = ChannelStore()
    with pytest.raises(StoreRefusal, match=said):
        store.put(Channel(response=bad, carrier_ghz=2.4))
    assert len(store) == 0


@pytest.mark.parametrize("carrier", [np.nan, np.inf, 0.0, -1.0, 1e9])
def test_the_store_refuses_carriers_that_are_none(carrier: float) -> None:
    with pytest.raises(StoreRefusal, match="carrier_ghz"):
        ChannelStore().put(Channel(response=GOOD.response, carrier_ghz=carrier))


def test_what_was_put_in_cannot_be_changed_from_outside() -> None:
    store, mine = ChannelStore(), GOOD.response.copy()
    handle = store.put(Channel(response=mine, carrier_ghz=2.4))
    mine[:] = 0
    assert np.array_equal(store.get(handle).response, GOOD.response)


def test_the_oldest_go_by_count_by_bytes_and_by_age() -> None:
    now = [0.0]
    nbytes = GOOD.response.nbytes
    for limits in (StoreLimits(max_count=2), StoreLimits(max_bytes=2 * nbytes + 1)):
        store = ChannelStore(limits=limits)
        first, second, third = (store.put(GOOD) for _ in range(3))
        with pytest.raises(StoreRefusal, match="There is no channel H1"):
            store.get(first)
        assert store.get(second)
        assert store.get(third)
    store = ChannelStore(limits=StoreLimits(max_age_s=10), clock=lambda: now[0])
    handle = store.put(GOOD)
    now[0] = 10.1
    with pytest.raises(StoreRefusal, match="There is no channel"):
        store.get(handle)
    with pytest.raises(StoreRefusal, match="keeps 100"):
        ChannelStore(limits=StoreLimits(max_bytes=100)).put(GOOD)


@pytest.mark.parametrize("handle", ["", "H0", "H01", "h1", "H1 ", "../H1", "H1\n", "H" + "9" * 30])
def test_only_handles_are_handles(handle: str) -> None:
    store = ChannelStore()
    store.put(GOOD)
    with pytest.raises(StoreRefusal, match="no handle"):
        store.get(handle)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "a\\b", ".", "..", "", "x\0", "x.npy", "-x", "x" * 65]
)
def test_names_are_no_paths(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    np.save(tmp_path / "x.npy", GOOD.response)
    with pytest.raises(StoreRefusal, match="no name"):
        ChannelStore(inside).load(name, 2.4)


def test_files_are_loaded_by_name_and_checked(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", GOOD.response)
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "large.npy", np.zeros((N_TIMES, N_DELAYS * 10), np.complex64))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_text("")
    (tmp_path / "link.npy").symlink_to(tmp_path / "good.npy")
    store = ChannelStore(tmp_path)
    assert np.array_equal(store.get(store.load("good", 2.4)).response, GOOD.response)
    refused = {
        "pickled": "safely", "text": "safely", "empty": "safely", "large": "more than",
        "link": "no array", "missing": "no array",
    }  # fmt: skip
    for name, said in refused.items():
        with pytest.raises(StoreRefusal, match=said):
            store.load(name, 2.4)
    with pytest.raises(StoreRefusal, match="--folder"):
        ChannelStore().load("good", 2.4)


def test_an_agent_simulates_and_asks_over_mcp() -> None:
    """Through the official SDK's client, over standard input and output of a real process."""

    async def talk() -> None:
        from mcp import Client, StdioServerParameters

        process = StdioServerParameters(
            command=sys.executable, args=["-m", "experts.tools.iox.server"], cwd=ROOT
        )
        async with Client(process) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {a.name for a in ATTRIBUTES} | {"simulate", "load_channel"}
            assert tools["snr_band"].input_schema["required"] == ["channel"]
            made = (await client.call_tool("simulate", {"seed": TEST_SEEDS})).structured_content
            for a in ATTRIBUTES:
                said = await client.call_tool(a.name, {"channel": made["channel"]})
                judged = load_classifiers()[a.name].judge(GOOD)
                assert said.structured_content["label"] == judged.label
                assert said.structured_content["probability"] == round(judged.probability, 4)

    asyncio.run(talk())


def test_tools_say_what_is_wrong() -> None:
    async def talk() -> None:
        from mcp import Client

        async with Client(make_server(ChannelStore())) as client:
            for name, arguments, said in (
                ("snr_band", {"channel": "H1"}, "There is no channel H1"),
                ("snr_band", {"channel": "../../etc/passwd"}, "no handle"),
                ("snr_band", {"channel": [1.0, 2.0]}, "channel"),
                ("snr_band", {}, "channel"),
                ("simulate", {"seed": -1}, "seed is -1"),
                ("simulate", {"seed": "x"}, "seed"),
                ("load_channel", {"name": "x", "carrier_ghz": 2.4}, "--folder"),
            ):
                result = await client.call_tool(name, arguments)
                assert result.is_error, name
                assert said in result.content[0].text  # type: ignore[union-attr]

    asyncio.run(talk())
