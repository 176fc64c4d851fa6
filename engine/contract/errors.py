"""The one exception for things that go wrong in a way a person can act on."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "oom_cuda", "oom_host", "nan_loss", "disk_full", "bad_data", "bad_model", "exception", "killed", "hang"
]


class MoltingError(Exception):
    """A failure told as one sentence (`message`) and what to do about it (`remedy`).

    `reason` is the word that a failed run records; `code` is the exit code of a command:
    1 the answer is bad, 2 the call is wrong, 3 it could not be done.
    """

    def __init__(self, message: str, *, remedy: str = "", reason: Reason = "exception", code: int = 3) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.reason: Reason = reason
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()
