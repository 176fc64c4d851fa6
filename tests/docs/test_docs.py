"""The documentation says what the program does: what can be compared is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer

from engine.checks import content
from engine.contract import bench, calls, needle, outputs, settings, verdict
from engine.contract.errors import Reason
from engine.contract.settings import Settings
from engine.contract.summary import Summary
from engine.infer.questions import QUESTIONS
from molting_tui import reference
from molting_tui.cli import app
from molting_tui.commands import runs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")])
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
REWRITE = "`python -m molting_tui.reference` writes it anew"

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<![\w/-])molting(?: --\w+(?: [A-Z]+)?)* ([a-z][a-z-]*)")
_OPTION = re.compile(r"`(--[a-z-]+)")


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def code(text: str) -> Iterator[str]:
    return (match[0] for match in _CODE.finditer(text))


def anchors(text: str) -> set[str]:
    """Names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_names() -> set[str]:
    group = typer.main.get_command(app)
    return set(group.commands)  # type: ignore[attr-defined]


def first_column(text: str) -> set[str]:
    """The words in code in the first cells of all tables."""
    cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_the_page_of_the_spec_is_what_the_spec_says() -> None:
    assert text_of("docs/spec.md") == reference.spec_page(), REWRITE


def test_the_settings_file_is_what_the_settings_say() -> None:
    assert text_of("config.toml") == reference.config_text(), REWRITE
    assert settings.load(ROOT / "config.toml") == Settings()


@PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text("utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert path.resolve().is_relative_to(ROOT)
        assert not anchor or anchor in anchors(path.read_text("utf-8")), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(_LINK.findall(text_of("README.md")))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


@PAGE
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = {found for part in code(page.read_text("utf-8")) for found in _COMMAND.findall(part)}
    assert named <= command_names(), page.name


def test_the_page_of_commands_names_them_all_with_their_options() -> None:
    text, group = text_of("docs/commands.md"), typer.main.get_command(app)
    options = set(_OPTION.findall(text)) - {"--help", "--version"}
    known = {option for parameter in group.params for option in parameter.opts + parameter.secondary_opts}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert f"| `molting {name}" in text
        known |= {option for each in command.params for option in each.opts + each.secondary_opts}
    long = {option for option in known if option.startswith("--")}
    assert options <= long
    assert long - options <= {"--json", "--wait", "--help", "--version"}


def test_the_page_of_commands_names_every_json_key() -> None:
    rows = {row.split(" | ")[0]: row for row in text_of("docs/commands.md").splitlines() if row.startswith("| `")}
    listed = runs.as_json(Summary(id="", path="", name="", state="queued"))
    for command, keys in {
        "| `runs`": listed,
        "| `prove`": calls.Proof.__struct_fields__,
        "| `report`": verdict.Reported.__struct_fields__,
        "| `why`": {"run", *calls.Investigation.__struct_fields__, *calls.Step.__struct_fields__},
        "| `ask`": {*calls.Asked.__struct_fields__, *calls.Pair.__struct_fields__, *calls.Answer.__struct_fields__},
        "| `doctor`": {*calls.Finding.__struct_fields__, *calls.Plan.__struct_fields__, "findings", "plan"},
        "| `model check`": calls.ModelCheck.__struct_fields__,
        "| `needle`": {
            "run",
            *(key for kind in (needle.Needle, needle.Length, needle.Planted) for key in kind.__struct_fields__),
        },
        "| `merge`": {*outputs.Merged.__struct_fields__, *outputs.MergeProof.__struct_fields__},
        "| `bench`": {
            *(key for kind in (bench.Header, bench.Row, bench.Said) for key in kind.__struct_fields__),
            *bench.Candidate.__struct_fields__,
        },
    }.items():
        assert {key for key in keys if f"`{key}`" not in rows[command]} == set(), command


def test_every_reason_has_its_section() -> None:
    assert set(get_args(Reason)) <= anchors(text_of("docs/troubleshooting.md"))


def test_the_page_of_the_doctor_names_every_check() -> None:
    names = [
        "targets",
        "template",
        "steps",
        "questions",
        "data",
        "content",
        "facts",
        "room",
        "rope",
        "memory",
        "environment",
        "preflight",
    ]
    files = [ROOT / "engine" / "checks" / f"{name}.py" for name in names]
    source = "".join(file.read_text("utf-8") for file in files)
    ids = set(re.findall(r'\bid="([a-z-]+)"', source)) | set(re.findall(r'id=".*" if \w+.* else "([a-z-]+)"', source))
    ids |= {rule[0] for rule in content._RULES}
    assert {"probe-in-rows", "rubric-in-rows", "foreign-end", "agent-talk", "few-steps"} <= ids
    assert ids <= first_column(text_of("docs/doctor.md"))


def test_the_page_of_the_investigation_names_its_steps_causes_and_findings() -> None:
    checks = [ROOT / "engine" / path for path in ("checks/after.py", "checks/curve.py", "infer/investigate.py")]
    ids = {found for file in checks for found in re.findall(r'(?:\bid=|else )"([a-z-]+)"', file.read_text("utf-8"))}
    ids -= {"error", "warning"}
    assert {"cap-hit", "no-steps", "ended-early", "merging-loses", "against"} <= ids
    assert first_column(text_of("docs/why.md")) == ids | set(QUESTIONS) | set(get_args(calls.Cause))


def test_every_variable_of_the_environment_is_told() -> None:
    sources = [path.read_text("utf-8") for room in ("engine", "molting_tui") for path in (ROOT / room).rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(MOLTING_[A-Z_]+)"', text)}
    assert {"MOLTING_RUNS", "MOLTING_MODELS"} <= read <= first_column(text_of("docs/commands.md"))


def test_the_thresholds_of_the_proof_are_those_it_uses() -> None:
    source, page = (ROOT / "engine/infer/effect.py").read_text("utf-8"), text_of("docs/proof.md")
    kl, flips = (re.search(rf"^{name} = ([\d.]+)$", source, re.MULTILINE) for name in ("LEAST_KL", "LEAST_FLIP_RATE"))
    assert kl and f"KL below {kl[1]} nats" in page
    assert flips and f"fewer than {float(flips[1]) * 100:g} % of the top tokens" in page


def test_the_thresholds_of_a_merge_are_those_it_uses() -> None:
    source, page = (ROOT / "engine/export/proof.py").read_text("utf-8"), text_of("docs/merge.md")
    kl, agreement = (
        re.search(rf"^{name} = ([\d.]+)$", source, re.MULTILINE) for name in ("MOST_KL", "LEAST_AGREEMENT")
    )
    assert kl and f"at most {kl[1]} nats" in page
    assert agreement and f"at {float(agreement[1]) * 100:g} % of the positions" in page
