"""Changes `config.toml` on the user's behalf: one value, everything else and every comment left as it is."""

from __future__ import annotations

import tomlkit
from tomlkit.exceptions import TOMLKitError

from engine.contract import durable, places
from engine.contract.errors import MoltingError


def remember(section: str, key: str, value: str) -> None:
    """Write `[section] key = value`. MoltingError when the file is not TOML or cannot be written."""
    path = places.config_file()
    try:
        document = tomlkit.parse(path.read_text("utf-8")) if path.exists() else tomlkit.document()
        document.setdefault(section, tomlkit.table())[key] = value
        durable.make_private_dir(path.parent)
        durable.write_replace(path, tomlkit.dumps(document).encode())
    except (TOMLKitError, ValueError, TypeError) as error:
        raise MoltingError(f"{path} is not valid TOML, so nothing was changed in it: {error}.") from None
    except OSError as error:
        raise durable.explain(error, f"write {path}") from None
