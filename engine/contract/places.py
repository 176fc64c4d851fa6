"""Where things live: in the checkout when there is one, else in the folders of the XDG standard."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def checkout() -> Path | None:
    """The root of the source checkout, or None when Molting was installed as a wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "data" / "personas").is_dir() else None


def shipped() -> Path:
    """The data that ships with Molting: personas, rubrics, probe prompts. Read only."""
    root = checkout()
    return root / "data" if root else _PACKAGE / "_shipped"


def _chosen(variable: str, setting: str, local: str, xdg: str, fallback: str, leaf: str) -> Path:
    if chosen := os.environ.get(variable) or setting:
        return Path(chosen).expanduser().absolute()
    root = checkout()
    if root:
        return root / local
    base = os.environ.get(xdg) or str(Path.home() / fallback)
    return Path(base) / "molting" / leaf


def config_file() -> Path:
    """`config.toml`; it may not exist. MOLTING_CONFIG names another."""
    return _chosen("MOLTING_CONFIG", "", "config.toml", "XDG_CONFIG_HOME", ".config", "config.toml")


def runs_dir(setting: str = "") -> Path:
    """The folder of run directories. MOLTING_RUNS wins over the setting."""
    return _chosen("MOLTING_RUNS", setting, "runs", "XDG_DATA_HOME", ".local/share", "runs")


def models_dir(setting: str = "") -> Path:
    """The folder of downloaded and converted models. MOLTING_MODELS wins over the setting."""
    return _chosen("MOLTING_MODELS", setting, "data/models", "XDG_DATA_HOME", ".local/share", "models")
