"""A form whose every event is on the disk before the form takes it in: what is shown as saved is saved."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class _Event(Protocol):
    @property
    def t(self) -> float: ...


E = TypeVar("E", bound=_Event)
In = TypeVar("In", bound=_Event, contravariant=True)


class _Form(Protocol[In]):
    def take(self, event: In, /) -> None: ...


class _File(Protocol[In]):
    def say(self, event: In, /) -> None: ...
    def close(self) -> None: ...


F = TypeVar("F", bound=_Form)


class DurableForm(Generic[F, E]):
    """A form and the file of its events. `saved` is the time of the newest of them, 0 where there is none."""

    def __init__(self, form: F, file: _File[E], saved: float) -> None:
        self.form, self._file, self.saved = form, file, saved

    def say(self, event: E | None) -> bool:
        """Write one event and take it in; False for a key that meant nothing. MoltingError when the disk refuses.

        In the thread that paints: a few ms, after which no order of keys and frames can show what was not saved.
        """
        if event is None:
            return False
        self._file.say(event)
        self.form.take(event)
        self.saved = event.t
        return True

    def close(self) -> None:
        self._file.close()
