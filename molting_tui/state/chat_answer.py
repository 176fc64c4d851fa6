"""Answers while they come: the replies of the inference host, folded. Pure."""

from __future__ import annotations

import msgspec

from engine.contract import host
from engine.contract.errors import MoltingError

from .chat import KEPT, Reply, Turn


class Voice:
    """One voice's answer so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.length = 0
        self.tokens = 0
        self.since = 0.0  # when its first token came, by the clock of `Answering.hear`
        self.done: host.VoiceDone | None = None
        self.cut = False

    def add(self, delta: host.Delta, now: float) -> None:
        """Take one piece. What is longer than `KEPT` is cut."""
        self.since = self.since or now
        self.tokens = delta.tokens
        room = KEPT - self.length
        self.cut = self.cut or len(delta.text) > room
        if room > 0 and delta.text:
            self._pieces.append(delta.text[:room])
            self.length += min(room, len(delta.text))

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def per_second(self, now: float) -> float:
        """Tokens a second since the first one."""
        passed = now - self.since
        return (self.tokens - 1) / passed if self.since and passed > 0.2 else 0.0


class Answering:
    """A turn that is being answered. `version` grows with all that changes what is seen."""

    def __init__(self, turn: Turn, began: float) -> None:
        self.turn, self.began = turn, began
        self.voices = [Voice() for _ in turn.voices]
        self.progress: host.Progress | None = None
        self.phase_began = began
        self.mode, self.why = "", ""
        self.kl: list[float | None] = []
        self.done: host.Done | None = None
        self.failed: MoltingError | None = None
        self.lost = False
        self.stopping = False
        self.version = 0

    @property
    def under_way(self) -> bool:
        """Whether the first token is being, or was, computed."""
        return bool(self.mode)

    @property
    def length(self) -> int:
        """Characters that all voices have said."""
        return sum(voice.length for voice in self.voices)

    @property
    def too_long(self) -> bool:
        """Whether a voice has said more than is kept, so that it had better be stopped."""
        return any(voice.cut for voice in self.voices)

    def hear(self, reply: host.Reply, now: float) -> None:
        """Apply one reply, which came at `now` (monotonic seconds)."""
        self.version += 1
        if isinstance(reply, host.Delta):
            if 0 <= reply.voice < len(self.voices):
                self.voices[reply.voice].add(reply, now)
        elif isinstance(reply, host.Progress):
            if self.progress is None or self.progress.phase != reply.phase:
                self.phase_began = now
            self.progress = reply
        elif isinstance(reply, host.Began):
            self.progress, self.mode, self.why = None, reply.mode, reply.why
        elif isinstance(reply, host.First):
            self.kl = list(reply.kl)
        elif isinstance(reply, host.VoiceDone):
            if 0 <= reply.voice < len(self.voices):
                self.voices[reply.voice].done = reply
        elif isinstance(reply, host.Done):
            self.done, self.kl = reply, list(reply.kl)
        elif isinstance(reply, host.Failure) and not reply.stopped:
            self.failed = MoltingError(reply.message, remedy=reply.remedy, code=reply.code)

    def seconds_left(self, now: float) -> float | None:
        """How long the present phase will go on; None where nothing tells."""
        told = self.progress
        if told is None or not told.total or told.done <= 0:
            return None
        return (now - self.phase_began) * max(0.0, told.total - told.done) / told.done

    def replies(self) -> list[Reply]:
        """What was said, also where it ended early. A voice that said nothing before the host was lost has none."""
        return [self._reply(index) for index, voice in enumerate(self.voices) if voice.done or voice.tokens]

    def so_far(self) -> list[Reply]:
        """What there is to keep of answers that still come: broken off, unless more is told of them."""
        lost, self.lost = self.lost, True
        found = self.replies()
        self.lost = lost
        return found

    def _reply(self, index: int) -> Reply:
        voice, done = self.voices[index], self.voices[index].done
        reply = Reply(
            turn=self.turn.id,
            voice=self.turn.voices[index],
            text=voice.text,
            stop=done.stop if done else ("lost" if self.lost or self.failed else "stopped"),
            tokens=done.tokens if done else voice.tokens,
            to_first=done.to_first if done else 0.0,
            seconds=done.seconds if done else 0.0,
            kl=self.kl[index] if index < len(self.kl) else None,
            mode=self.mode,
            cut=voice.cut,
        )
        if self.done is None or index >= len(self.done.first_difference):
            return reply
        return msgspec.structs.replace(reply, compared=True, differs=self.done.first_difference[index])
