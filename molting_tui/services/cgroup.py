"""The memory that a container or a job may use, where the kernel limits it: cgroup v2 or v1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int] | None:
    """(limit, used) in bytes of the tightest limit over this process; None where there is none.

    Used is without the pages of files that the kernel would give back first, as `docker stats` counts too.
    """
    found = [limits for folder, names in _folders(root, own) if (limits := _read(folder, names))]
    return min(found, default=None)


def _folders(root: Path, own: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """This process's groups and all above them; inside a container the root itself is the group."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "memory", _V1) if controllers else (root, _V2)
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if folder != top and top not in folder.parents:
                break
            yield folder, names


def _read(folder: Path, names: tuple[str, str, str]) -> tuple[int, int] | None:
    try:
        limit, used = (int((folder / name).read_text()) for name in names[:2])
        rows = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        idle = next((int(row[1]) for row in rows if row[0] == names[2]), 0)
    except (OSError, ValueError, IndexError):  # "max": no limit here
        return None
    return limit, max(0, used - idle)
