"""Commands that reach a run as files in `control/`: stop, stop-now, save-now."""

from __future__ import annotations

from pathlib import Path

from engine.contract.rundir import RunDir


class Control:
    """Reads the control files of a run. Asking costs one stat, so a trainer can ask at every step."""

    def __init__(self, run: RunDir) -> None:
        self._folder = run.control
        self.signalled = False  # a signal asked for a stop

    def _file(self, name: str) -> Path:
        return self._folder / name

    def stop(self) -> bool:
        return self.signalled or self._file("stop").exists() or self.stop_now()

    def stop_now(self) -> bool:
        return self._file("stop-now").exists()

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for; asking takes the order away."""
        try:
            self._file("save-now").unlink()
        except FileNotFoundError:
            return False
        return True

    def asked(self) -> bool:
        """Whether a person asked for a stop; a signal may come from anyone."""
        return self._file("stop").exists() or self.stop_now()

    def clear(self) -> None:
        """Forget orders to an attempt that has ended."""
        for name in ("stop", "stop-now", "save-now"):
            self._file(name).unlink(missing_ok=True)
