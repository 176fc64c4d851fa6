"""The host's one worker: takes requests in turn, keeps models warm, and never lets one bad request spoil the next."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract import calls, host
from engine.contract.errors import MoltingError
from engine.contract.safe import redact

from .turns import Turns

if TYPE_CHECKING:
    from engine.infer.warm import Warm

    from .chat import Conversation

Post = Callable[[host.Reply], None]


class Stopped(Exception):
    """Nobody waits for this any more. Only raised between tokens' batches, where nothing is half done."""


@dataclass(eq=False)
class Job:
    """A request that waits or is at work. `post` may be called from any thread."""

    request: host.Open | host.Chat | host.Call | host.Free
    post: Post
    client: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        kind = self.request.verb if isinstance(self.request, host.Call) else type(self.request).__name__.lower()
        return f"{kind} for {self.client or 'a client'}"

    def tell(self, line: calls.Line) -> None:
        """What verbs call on their way: passed on, and the place where a cancelled one ends."""
        if self.stop.is_set():
            raise Stopped
        if isinstance(line, calls.Progress):
            fields = {name: getattr(line, name) for name in line.__struct_fields__}
            self.post(host.Progress(id=self.request.id, **fields))
        elif isinstance(line, calls.Note):
            self.post(host.Note(id=self.request.id, text=line.text))


class Worker:
    """Runs jobs on a thread of its own: the only one that touches torch."""

    def __init__(self, log: Path, verbs: dict[str, tuple[str, str, type]], done: Callable[[Job], None]) -> None:
        self.log, self.verbs, self._done = log, verbs, done
        self.turns: Turns[Job] = Turns()
        self.current: Job | None = None
        self.last_work = time.monotonic()
        self.resident: list[host.InMemory] = []
        self._warm: Warm | None = None
        self._said: Conversation | None = None
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    @property
    def busy(self) -> str:
        """What is at work or waits, in words; empty when idle."""
        current = self.current
        return current.name if current else "a question that waits" if self.turns.waiting() else ""

    def _work(self) -> None:
        while True:
            job = self.turns.take()
            self.current = job
            try:
                reply = self._answer(job)
            finally:
                self.current = None
                self.last_work = time.monotonic()
            self._done(job)  # before the reply, which may be followed at once by a question whether this is idle
            job.post(reply)
            self._go_on()

    def _go_on(self) -> None:
        """Ahead of the next question, when nobody waits. Whatever goes wrong here, that question will say."""
        said, self._said = self._said, None
        try:
            if said is not None:
                said.go_on(lambda: self.turns.waiting() > 0)
        except BaseException:
            print(f"{time.strftime('%F %T')} nothing was computed ahead\n{traceback.format_exc()}", file=sys.stderr)
            with contextlib.suppress(Exception):
                if self._warm is not None:
                    self._warm.clear()

    def _answer(self, job: Job) -> host.Reply:
        """The last reply to a request; nothing is raised."""
        request = job.request
        if job.stop.is_set():
            return stopped(request.id)
        try:
            return self._do(job)
        except Stopped:
            return stopped(request.id)
        except MoltingError as error:
            return host.Failure(id=request.id, message=error.message, remedy=error.remedy, code=error.code)
        except BaseException as error:
            return self._failure(request.id, job.name, error)
        finally:
            self._note_residents()

    def _do(self, job: Job) -> host.Reply:
        request = job.request
        if isinstance(request, host.Free):
            return self._free(request)
        warm = self._ready(job)
        from engine.infer.generate import stop_asked
        from engine.infer.session import kept

        kept.set(warm)
        stop_asked.set(job.stop.is_set)
        if isinstance(request, host.Call):
            return self._call(request, job)
        from . import chat, opened

        if isinstance(request, host.Open):
            return opened.opened(request, warm, job.tell)
        conversation = chat.Conversation(request, warm, job.post, job.tell)
        done = conversation.answer()
        self._said = conversation if request.goes_on else None
        return done

    def _ready(self, job: Job) -> Warm:
        """Import what takes seconds, once, while the socket is served already."""
        if self._warm is None:
            job.tell(calls.Progress(phase="importing"))
            from engine.infer.warm import Warm
            from engine.models.quiet import quiet_libraries

            quiet_libraries()
            self._warm = Warm()
        return self._warm

    def _call(self, request: host.Call, job: Job) -> host.Reply:
        from importlib import import_module

        if request.verb not in self.verbs:
            raise MoltingError(f"The inference host has no verb {request.verb[:40]!r}.", code=2)
        module, function, kind = self.verbs[request.verb]
        try:
            asked: Any = msgspec.json.decode(request.request, type=kind)
        except (ValueError, RecursionError) as error:
            raise MoltingError(f"This is no request for {request.verb}: {str(error)[:200]}.", code=2) from None
        value = getattr(import_module(module), function)(asked, job.tell)
        if job.stop.is_set():
            return stopped(request.id)
        return host.Result(id=request.id, value=msgspec.Raw(msgspec.json.encode(value)))

    def _free(self, request: host.Free) -> host.Freed:
        before = footprint()
        if self._warm is not None:
            self._warm.clear()
        exits = device_bytes() is not None  # the context of a GPU goes with its process alone
        return host.Freed(id=request.id, bytes=max(0, before - footprint()), exits=exits)

    def _failure(self, id: str, name: str, error: BaseException) -> host.Failure:
        """The story goes to the log; no model that was at work is trusted afterwards."""
        print(f"{time.strftime('%F %T')} {name} failed", file=sys.stderr)
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)
        short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        what = "there is not enough memory for it" if short else f"{type(error).__name__}: {redact(str(error))[:200]}"
        del error
        with contextlib.suppress(Exception):
            if self._warm is not None:
                self._warm.clear()
        remedy = "Ask something shorter, or end what else uses the memory." if short else ""
        return host.Failure(
            id=id,
            message=f"The inference host could not do this: {what}.",
            remedy=remedy or f"The whole story is in {self.log}. The model is loaded anew for the next question.",
            log=str(self.log),
        )

    def _note_residents(self) -> None:
        now = time.monotonic()
        residents = self._warm.residents if self._warm else []
        self.resident = [
            host.InMemory(
                name=each.folder.name,
                bytes=each.loaded.weight_bytes,
                precision=each.loaded.precision,
                quantization=each.loaded.quantization,
                adapters=[f"{path.parent.name}/{path.name}" for path, _ in each.adapters],
                idle_seconds=now - each.used,
            )
            for each in residents
        ]


def stopped(id: str) -> host.Failure:
    return host.Failure(id=id, message="Stopped.", stopped=True)


def footprint() -> int:
    """Bytes that this process holds where its models lie."""
    on_device = device_bytes()
    if on_device is not None:
        return on_device
    fields = Path("/proc/self/statm").read_text().split() if Path("/proc/self/statm").exists() else ["0", "0"]
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def device_bytes() -> int | None:
    """Bytes reserved on the GPU; None where this process uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.memory_reserved())
