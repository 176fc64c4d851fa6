"""The user's settings: `config.toml`, every key with its default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from . import places, tomlcheck
from .errors import MoltingError
from .presets import Preset
from .safe import safe
from .spec import Auto

Theme = Literal["auto", "dark", "light", "colour-blind", "colour-blind-light", "terminal"]


class Paths(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Where things are kept."""

    runs: Annotated[str, Meta(description="folder of run directories; empty: runs/ in the checkout or XDG")] = ""
    models: Annotated[str, Meta(description="folder of models; empty: data/models/ in the checkout or XDG")] = ""


class Ui(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How the app looks and feels."""

    theme: Annotated[
        Theme, Meta(description="auto: light where the terminal says it is light; terminal: its own colours")
    ] = "auto"
    mouse: Annotated[bool, Meta(description="false leaves the mouse to the terminal, for selecting text")] = True
    ascii: Annotated[
        Union[bool, Auto], Meta(description="marks and plots in plain ASCII; auto: where the locale is not UTF-8")
    ] = "auto"
    refresh: Annotated[
        Union[Auto, Annotated[float, Meta(ge=0.2, le=20.0)]],
        Meta(description="repaints a second; auto: 4, and 2 over SSH"),
    ] = "auto"
    animation: Annotated[Union[bool, Auto], Meta(description="auto: not over SSH")] = "auto"


class Host(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The process that keeps models in memory for `ask`, `prove` and chat."""

    idle_minutes: Annotated[
        float, Meta(ge=0.01, le=10_080, description="it ends, and frees its memory, after so long without a question")
    ] = 15.0


class Judge(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A language model behind an OpenAI-compatible endpoint, as a second rater."""

    base_url: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$", description='as "http://localhost:8000/v1"; empty: there is no judge')
    ] = ""
    model: Annotated[str, Meta(max_length=200, description="its name there")] = ""
    api_key_env: Annotated[
        str,
        Meta(pattern=r"^\w*$", description="variable of the environment that holds the key; empty: none needed"),
    ] = ""
    timeout: Annotated[float, Meta(ge=1.0, le=3600.0, description="seconds that one reply may take")] = 60.0


class Remote(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Another machine, reached by ssh. Empty: ssh is told the name, molting is on its PATH, its home is the root."""

    ssh: str = ""  # a destination as ssh takes it
    molting: str = ""  # the program there
    root: str = ""  # the folder there in which commands run
    show: bool = True  # whether the app lists its runs


class Settings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """All of `config.toml`."""

    paths: Paths = Paths()
    ui: Ui = Ui()
    host: Host = Host()
    judge: Judge = Judge()
    hosts: Annotated[
        dict[str, Remote],
        Meta(
            description="other machines, as { box = "
            '{ ssh = "me@box", molting = "~/molting/bin/molting", root = "~/work", show = true } }'
        ),
    ] = {}
    presets: Annotated[
        dict[str, Preset],
        Meta(description="ways to answer in Chat, as { mine = { temperature = 0.6, top_p = 0.9, top_k = 40 } }"),
    ] = {}
    keys: Annotated[
        dict[str, str], Meta(description='keys of your own, as { stop = "S,f9" }; the names are in docs/keys.md')
    ] = {}

    @property
    def runs(self) -> Path:
        return places.runs_dir(self.paths.runs)

    @property
    def models(self) -> Path:
        return places.models_dir(self.paths.models)


def load(path: Path | None = None) -> Settings:
    """The settings of `path` or of the usual place; defaults where there is no file.

    Raises tomlcheck.SpecError, naming every problem of the file; MoltingError (code 2) where MOLTING_CONFIG names none.
    """
    path = path or places.config_file()
    if path.exists():
        return tomlcheck.load(path, Settings)
    if os.environ.get("MOLTING_CONFIG"):
        raise MoltingError(
            f"MOLTING_CONFIG names {safe(str(path), False)}, and there is no such file.",
            remedy="Correct the path, or unset it: then the usual settings hold.",
            code=2,
        )
    return Settings()
