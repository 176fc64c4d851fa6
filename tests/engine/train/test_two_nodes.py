"""Two machines that train one run, as two network namespaces: they meet, learn, and the link between them is cut."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract import calls, events
from engine.contract.rundir import RunDir
from tests.support.world import World, metrics, read_events, wait_for, wait_for_step

pytestmark = pytest.mark.slow
NODES = ("mlt-a", "mlt-b")
PORT = 29_417
HANG_MINUTES = 0.4


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def link() -> Iterator[None]:
    """Two namespaces at both ends of a cable, 10.71.0.1 and .2; skipped where that is not permitted."""
    if not shutil.which("ip"):
        pytest.skip("there is no `ip` (iproute2) here")
    try:
        for node in NODES:
            ip("netns", "add", node)
        ip("link", "add", "cable-a", "netns", NODES[0], "type", "veth", "peer", "name", "cable-b", "netns", NODES[1])
        for number, (node, end) in enumerate(zip(NODES, ("cable-a", "cable-b"), strict=True), 1):
            ip("-n", node, "addr", "add", f"10.71.0.{number}/24", "dev", end)
            ip("-n", node, "link", "set", end, "up")
            ip("-n", node, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        remove()
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
    yield
    remove()


def remove() -> None:
    for node in NODES:
        subprocess.run(["ip", "netns", "del", node], capture_output=True)


def on(number: int, world: World, *words: str) -> subprocess.Popen[bytes]:
    """An engine process on machine `number`, which knows where the machines meet."""
    own = {
        "MOLTING_NODES": "2",
        "MOLTING_MEET": f"10.71.0.1:{PORT}",
        "MOLTING_ADDRESS": f"10.71.0.{number + 1}",
        "GLOO_SOCKET_IFNAME": ("cable-a", "cable-b")[number],
        "MOLTING_RUNTIME_DIR": str(world.root / f"node{number}"),
    }
    argv = ["ip", "netns", "exec", NODES[number], sys.executable, "-I", "-m", "engine", *words]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(argv, env=world.env | own, start_new_session=True, **quiet)


def test_a_link_that_is_cut_ends_the_attempt_and_another_goes_on(world: World, link: None) -> None:
    spec = world.persona("nodes", training={"max_steps": 100_000, "batch": 4, "hang_minutes": HANG_MINUTES})
    request = calls.CreateRequest(spec=str(spec), runs=str(world.runs), models=str(world.models), start=False)
    run = RunDir(Path(world.call("create", request)["path"]))
    first = on(0, world, "supervise", str(run.path), str(world.models))
    second = None
    try:
        wait_for(run, "starting")
        second = on(1, world, "torchrun", str(run.path), "1", "1")
        wait_for_step(run, 3)
        start = next(event for event in read_events(run, 1) if isinstance(event, events.Start))
        assert start.plan["processes"] == 2
        ip("-n", NODES[1], "link", "set", "cable-b", "down")
        said = wait_for(run, "failed")
        assert said.reason == "hang" and "not heard" in said.why, said.why
        assert len(metrics(run)) >= 3
        assert first.wait(60) != 0
    finally:
        for each in filter(None, (first, second)):
            each.kill()
            each.wait()
    assert not run.adapter.exists()
