"""A terminal that ends and tells nobody: one that does not control us sends no SIGHUP, and reading goes on for ever."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

_PATIENCE = 2.0  # seconds for the signal, should a parent have had it ignored


def end_with_terminal(fd: int = 0) -> None:
    """From now on, end this process when the terminal behind `fd` hangs up."""
    threading.Thread(target=_wait, args=(fd,), name="hang-up", daemon=True).start()


def _wait(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # nothing asked for: only the hang-up is told
    poll.poll()
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(_PATIENCE)
    os._exit(128 + signal.SIGHUP)
