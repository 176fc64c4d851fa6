"""The app's connection to a real host."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec
import pytest

from engine.contract import host
from engine.contract.host_client import Gone
from molting_tui.services.host import HostLink
from tests.support.host import hosted


@pytest.fixture
def place(tmp_path, monkeypatch):
    with hosted(tmp_path) as made:
        for name in ("MOLTING_RUNTIME_DIR", "MOLTING_CONFIG", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.setenv(name, made.env[name])
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        yield made


async def state(link):
    return [reply async for reply in link.ask(host.Status(id=link.new_id()))][-1]


def test_the_app_starts_a_host_and_finds_another_after_its_death(place):
    async def story():
        link = HostLink()
        first = await state(link)
        assert first.clients == 1
        both = await asyncio.gather(state(link), state(link))
        assert {each.pid for each in both} == {first.pid}
        os.kill(first.pid, signal.SIGKILL)
        while not link._reading.done():
            await asyncio.sleep(0.01)
        second = await state(link)
        assert second.pid != first.pid
        await link.close()

    asyncio.run(story())


def test_a_host_that_ends_in_the_middle_is_told_and_the_app_lives_on(place):
    async def story():
        link = HostLink()
        await link.connect()
        request = msgspec.Raw(b'{"run":"/r","models":"/m","questions":["?"]}')
        asked = link.ask(host.Call(id="x", verb="ask", request=request))
        assert (await asked.__anext__()).phase == "importing"
        os.kill(link.welcome.pid, signal.SIGKILL)
        with pytest.raises(Gone):
            async for _ in asked:
                pass
        await link.close()

    asyncio.run(story())
