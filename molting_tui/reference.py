"""Pages and files that are made of what the settings and the spec say about themselves.

`python -m molting_tui.reference` writes them anew: `docs/spec.md` and the `config.toml` of the checkout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import NODEFAULT, inspect

from engine.contract import durable, places
from engine.contract.settings import Settings
from engine.contract.spec import Spec
from engine.contract.tomlwords import expected_words, unwrapped

from .spec_text import toml_value

_COLUMN = 18  # where the descriptions in config.toml begin

_SPEC_HEAD = """\
# The spec of a run

A spec is a TOML file. Three lines are enough; every other key has a default.

```toml
model.base = "demo"
data.train = "rows.jsonl"
data.system_file = "system.txt"
```

`molting init NAME` writes one with every key as a comment, `molting doctor SPEC` checks it. Paths are relative to the
spec's folder. "auto" and 0 mean: choose well for this model, this data and this device. What was chosen stands in the
`spec.toml` of the run, which is a spec itself: training it again repeats the run.

All mistakes of a file are told at once, each with its line, what was expected, and the nearest key there is.

This page is made from the program (`python -m molting_tui.reference`).
"""

_CONFIG_HEAD = """\
# Your settings, each with its default. Molting reads this file when it starts; delete what you do not change.
# In a checkout it is this file; elsewhere ~/.config/molting/config.toml. MOLTING_CONFIG names another.
"""


def spec_page() -> str:
    """`docs/spec.md`: every key of a spec with its default, what it takes and what it means. Pure."""
    return "\n".join([_SPEC_HEAD, *_spec_section(_struct(Spec), "")]).rstrip() + "\n"


def config_text() -> str:
    """`config.toml` with every setting at its default. Pure; it parses as `Settings()`."""
    lines = [_CONFIG_HEAD]
    for section in _struct(Settings).fields:
        lines += [f"[{section.name}]", *_setting_lines(section), ""]
    return "\n".join(lines).rstrip() + "\n"


def _struct(kind: type) -> inspect.StructType:
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    return found


def _spec_section(section: inspect.StructType, name: str) -> Iterator[str]:
    """The table of a section's own keys, then its sections."""
    keys = [field for field in section.fields if not isinstance(unwrapped(field.type), inspect.StructType)]
    yield f"## {name or 'Top level'}\n"
    yield f"{(section.cls.__doc__ or '').strip()}\n"
    yield "| key | default | takes | meaning |"
    yield "|---|---|---|---|"
    for field in keys:
        takes, meaning = expected_words(field.type), _description(field.type)
        yield f"| `{field.name}` | {_default_cell(field)} | {_cell(takes)} | {_cell(meaning)} |"
    yield ""
    for field in section.fields:
        below = unwrapped(field.type)
        if isinstance(below, inspect.StructType):
            yield from _spec_section(below, f"{name}.{field.name}" if name else field.name)


def _setting_lines(section: inspect.Field) -> Iterator[str]:
    below = unwrapped(section.type)
    if not isinstance(below, inspect.StructType):  # a table of the user's own keys has no defaults to show
        yield f"# {_description(section.type)}"
        return
    for field in below.fields:
        line = f"{field.name} = {toml_value(_default(field))}"
        yield f"{line:<{_COLUMN}}  # {_description(field.type)}"


def _description(kind: inspect.Type) -> str:
    schema = (kind.extra_json_schema or {}) if isinstance(kind, inspect.Metadata) else {}
    return str(schema.get("description", ""))


def _default(field: inspect.Field) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _default_cell(field: inspect.Field) -> str:
    return "required" if field.required else f"`{_cell(toml_value(_default(field)))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write both files into the checkout."""
    root = places.checkout()
    if root is None:
        raise SystemExit("There is no checkout to write into.")
    for path, text in {root / "docs" / "spec.md": spec_page(), root / "config.toml": config_text()}.items():
        durable.write_replace(path, text.encode(), mode=0o644)


if __name__ == "__main__":
    main()
