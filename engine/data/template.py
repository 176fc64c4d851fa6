"""Chat templates: finding the one to use, and rendering it under a limit of time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

from engine.contract.errors import MoltingError
from engine.data import sandbox
from engine.data.conversation import BadRow, Turn

_REQUEST_CHARS = 2 << 20  # of content in one exchange, so that the child's memory is the template's to use
_SOURCE_LIMIT = 1 << 20  # bytes of a template file
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "TZ", "LANG", "LC_ALL")  # no tokens or keys for a stranger's template

Messages = Sequence[Turn]
Job = tuple[Messages, bool]


class ChatTemplate:
    """A chat template and the special tokens it may name.

    Rendering happens in a child process (`sandbox.py`), started at the first rendering and ended with this object:
    a template that loops or eats memory is killed there, whenever it does so, and the rest goes on.
    """

    def __init__(self, source: str, tokens: Mapping[str, str] | None = None, *, now: datetime | None = None) -> None:
        """`tokens`: bos_token, eos_token and the like. `now`: what `strftime_now` tells; a run that must resume to
        the bit gives its own start, since some templates write today's date.
        """
        self.source = source
        self.tokens = dict(tokens or {})
        self._now = now
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._owner = 0

    def render(self, turns: Messages, *, generation_prompt: bool = False) -> str:
        """The text of a conversation. Raises BadRow when the template refuses it, MoltingError when it runs wild."""
        (text,) = self.render_all([(turns, generation_prompt)])
        if isinstance(text, BadRow):
            raise text
        return text

    def render_all(self, jobs: Sequence[Job]) -> list[str | BadRow]:
        """The text of every (turns, generation_prompt), or why the template refuses it.

        Raises MoltingError (bad_model) when a rendering takes too much time or memory.
        """
        results: list[str | BadRow] = []
        for part in _parts(jobs):
            results += self._render_part(part)
        return results

    def _render_part(self, jobs: Sequence[Job]) -> list[str | BadRow]:
        """One exchange with the child."""
        requests = [
            {
                **self.tokens,
                "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
                "tools": None,
                "documents": None,
                "add_generation_prompt": generation_prompt,
            }
            for turns, generation_prompt in jobs
        ]
        with self._lock:
            replies = self._exchange(json.dumps(requests))
        if replies is None:
            raise _runs_wild(f"took more than {sandbox.CPU_SECONDS:.0f} s, or more memory than it may")
        for reply in replies:
            if "limit" in reply:
                raise _runs_wild(reply["limit"])
        return [reply["text"] if "text" in reply else _refusal(reply["error"]) for reply in replies]

    def _exchange(self, request: str) -> list[dict[str, str]] | None:
        """The child's answer to one line, None when it was killed over it."""
        if self._child is None or self._owner != os.getpid():  # a forked worker needs its own
            self._start()
        assert self._child is not None and self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(request + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line.endswith("\n"):
            replies: list[dict[str, str]] = json.loads(line)
            return replies
        self.close()
        return None

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(Path(sandbox.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
        )
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _end, self._child, self._owner)
        first = {"source": self.source, "now": self._now.timestamp() if self._now else None}
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(first) + "\n")

    def close(self) -> None:
        """End the child. The next rendering starts a new one."""
        if self._child is not None:
            self._finalizer()
            self._child = None


def _parts(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in lists of about _REQUEST_CHARS."""
    part: list[Job] = []
    chars = 0
    for job in jobs:
        part.append(job)
        chars += sum(len(turn.content) for turn in job[0])
        if chars > _REQUEST_CHARS:
            yield part
            part, chars = [], 0
    if part:
        yield part


def _end(child: subprocess.Popen[str], owner: int) -> None:
    if owner != os.getpid():  # a fork closes its copies by ending; the child is not its own
        return
    child.kill()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    child.wait()


def _refusal(error: str) -> BadRow:
    return BadRow(f"refused by the chat template ({' '.join(error.split())[:200]})")


def _runs_wild(what: str) -> MoltingError:
    return MoltingError(
        f"The chat template {what} and was stopped.",
        remedy='Give another one, as in chat_template = "chatml".',
        reason="bad_model",
    )


def template_names() -> list[str]:
    """Names of the templates that are shipped."""
    folder = resources.files("engine.data") / "templates"
    return sorted(entry.name.removesuffix(".jinja") for entry in folder.iterdir() if entry.name.endswith(".jinja"))


def template_source(wanted: str, own: str | None, folder: Path | None = None) -> str | None:
    """The template to use, None for plain text: `wanted` if given, else the model's `own`.

    `wanted` is a shipped name ("zephyr"), "none", a file (relative to `folder`), or the template itself.
    Raises MoltingError for anything else.
    """
    if not wanted:
        return own
    if wanted == "none":
        return None
    if "{{" in wanted or "{%" in wanted:
        return wanted
    if wanted in template_names():
        return (resources.files("engine.data") / "templates" / f"{wanted}.jinja").read_text(encoding="utf-8")
    path = (folder or Path()) / wanted
    try:
        if not path.is_file() or path.stat().st_size > _SOURCE_LIMIT:
            raise FileNotFoundError
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise MoltingError(
            f"There is no chat template {wanted[:100]!r}.",
            remedy=f"Give a name ({', '.join(template_names())}), a .jinja file, or the template itself.",
            reason="bad_model",
            code=2,
        ) from None
