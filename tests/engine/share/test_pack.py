"""A packed run travels whole, without what is private; an archive that was tampered with does not open."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import calls, durable, outputs, summary
from engine.contract.errors import MoltingError
from engine.contract.events import Metric
from engine.contract.rundir import RunDir
from engine.share import archive
from engine.share.pack import pack
from engine.share.private import Cleaner
from engine.share.unpack import unpack
from tests.support.runs import Recorded, make_run

TOKEN = "hf_abcdefghijklmnopqrstuvwx"


def quiet(line: calls.Line) -> None:
    pass


def weights(path: Path) -> None:
    header = json.dumps({"lora_A": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = make_run(tmp_path / "here" / "runs", "rhea")
    recorded = Recorded(made).state("queued", "starting").start()
    recorded.state("training").say(metric(1, 2.5)).state("finished")
    staging = made.path / ".adapter"
    staging.mkdir()
    weights(staging / "adapter_model.safetensors")
    (staging / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": f"{tmp_path}/models/tiny"}))
    durable.seal(staging, made.adapter, step=1, base="f00")
    (made.inputs / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (made.path / "grades").mkdir()
    (made.path / "grades" / "ana-1.jsonl").write_text('{"k":"cell"}\n')
    (made.path / "answers").mkdir()
    (made.path / "answers" / "s.jsonl").write_text(f'{{"answer":"my key is {TOKEN}"}}\n')
    (made.path / "proof.json").write_text(f'{{"sentence":"{tmp_path}/here/runs/x and {TOKEN}"}}')
    (made.path / "owner.json").write_text('{"identity":{"host":"secret-box"}}')
    return made


def metric(step: int, loss: float) -> Metric:
    return Metric(step=step, loss=loss, grad_norm=1.0, lr=1e-3, tokens=10, learned=5, rows=4, seconds=1.0, epoch=0.1)


def packed(run: RunDir, to: Path, *, rows: bool = False) -> outputs.Packed:
    models = run.path.parent.parent.parent / "models"
    return pack(outputs.PackRequest(run=str(run.path), models=str(models), file=str(to), rows=rows), quiet)


def opened(file: Path, runs: Path) -> outputs.Unpacked:
    return unpack(outputs.UnpackRequest(file=str(file), runs=str(runs)), quiet)


def test_a_run_arrives_as_it_was(run: RunDir, tmp_path: Path) -> None:
    before = summary.summarise(run)
    made = packed(run, tmp_path / "rhea.molting.tar")
    there = opened(tmp_path / "rhea.molting.tar", tmp_path / "there")
    arrived = RunDir(Path(there.path))
    after = summary.summarise(arrived)
    assert (after.id, after.name, after.state, after.loss) == (before.id, "rhea", "finished", 2.5)
    assert not after.resumable and not after.problem and there.weights
    assert durable.check_seal(arrived.adapter) == []
    assert durable.read_manifest(arrived.adapter).meta == {"step": 1, "base": "f00"}
    sealed = (run.adapter / "adapter_model.safetensors").read_bytes()
    assert (arrived.adapter / "adapter_model.safetensors").read_bytes() == sealed
    assert made.size == (tmp_path / "rhea.molting.tar").stat().st_size
    assert (arrived.path / "grades" / "ana-1.jsonl").exists()
    assert oct(arrived.path.stat().st_mode & 0o777) == "0o700"


def test_nothing_private_travels(run: RunDir, tmp_path: Path) -> None:
    made = packed(run, tmp_path / "a.tar")
    raw = (tmp_path / "a.tar").read_bytes()
    for private in (TOKEN, "secret-box", str(tmp_path), '"completion"'):
        assert private.encode() not in raw
    assert any("answers/s.jsonl" in said for said in made.left_out)
    assert any("--rows" in said for said in made.left_out)


def test_rows_travel_when_asked(run: RunDir, tmp_path: Path) -> None:
    packed(run, tmp_path / "a.tar", rows=True)
    there = opened(tmp_path / "a.tar", tmp_path / "there")
    assert (Path(there.path) / "inputs" / "rows.jsonl").read_text().startswith('{"prompt"')


def test_a_run_that_works_is_not_packed(tmp_path: Path) -> None:
    live = make_run(tmp_path / "runs")
    Recorded(live).state("queued")
    with pytest.raises(MoltingError, match="more to come"):
        packed(live, tmp_path / "a.tar")


def test_a_broken_seal_is_not_packed(run: RunDir, tmp_path: Path) -> None:
    with (run.adapter / "adapter_model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(MoltingError, match="damaged"):
        packed(run, tmp_path / "a.tar")
    assert list(tmp_path.glob("*a.tar*")) == []


def test_nothing_is_overwritten(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("mine")
    with pytest.raises(MoltingError, match="exists already"):
        packed(run, tmp_path / "a.tar")
    packed(run, tmp_path / "b.tar")
    opened(tmp_path / "b.tar", tmp_path / "there")
    with pytest.raises(MoltingError, match="is here already"):
        opened(tmp_path / "b.tar", tmp_path / "there")


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def rewritten(file: Path, change: Change) -> Path:
    with tarfile.open(file) as tar:
        members = [(info, (tar.extractfile(info) or io.BytesIO()).read()) for info in tar]
    change(members)
    with tarfile.open(file.with_name("changed.tar"), "w") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return file.with_name("changed.tar")


def in_manifest(change: Callable[[dict[str, object]], None]) -> Change:
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info, content = members[0]
        said = json.loads(content)
        change(said)
        members[0] = (info, json.dumps(said).encode())

    return apply


def flipped(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    at = next(i for i, (info, _) in enumerate(members) if info.name.endswith(".safetensors"))
    info, content = members[at]
    members[at] = (info, content[:-1] + b"\xff")


def linked(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """A file that the manifest names, as a link to one of this machine."""
    at = next(i for i, (info, _) in enumerate(members) if info.name == "spec.toml")
    info, _ = members[at]
    info.type, info.linkname = tarfile.SYMTYPE, members[0][0].name
    members[at] = (info, b"")


def with_stranger(name: str, kind: bytes = tarfile.REGTYPE) -> Change:
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        members.append((info, b""))

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flipped, "sha256 differs"),
        (with_stranger("../../evil"), "does not name"),
        (with_stranger("adapter/optimizer.pt"), "does not name"),
        (with_stranger("spec.toml", tarfile.SYMTYPE), "does not name"),
        (linked, "does not name"),
        (lambda members: members.pop(), "is missing"),
        (lambda members: members.pop(0), "not a packed run"),
        (in_manifest(lambda said: said.update(run="../x")), "no proper id"),
        (in_manifest(lambda said: said.update(v=99)), "version 99"),
        (in_manifest(lambda said: said["files"].update({"adapter/a.bin": {"size": 1, "sha256": ""}})), "which no"),  # type: ignore[attr-defined]
        (in_manifest(lambda said: said["files"].update({"/etc/x": {"size": 1, "sha256": ""}})), "which no"),  # type: ignore[attr-defined]
        (in_manifest(lambda said: said["files"]["spec.toml"].update(size=1 << 60)), "disk"),  # type: ignore[index]
        (in_manifest(lambda said: said.pop("files")), "manifest is damaged"),
    ],
)
def test_what_was_tampered_with_does_not_open(run: RunDir, tmp_path: Path, change: Change, said: str) -> None:
    packed(run, tmp_path / "a.tar")
    with pytest.raises(MoltingError, match=said):
        opened(rewritten(tmp_path / "a.tar", change), tmp_path / "there")
    assert list((tmp_path / "there").glob("*")) == [] if (tmp_path / "there").exists() else True


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x00" * 2048])
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(MoltingError, match="cannot be unpacked"):
        opened(tmp_path / "x.tar", tmp_path / "there")


def test_an_archive_cut_anywhere_does_not_open(run: RunDir, tmp_path: Path) -> None:
    packed(run, tmp_path / "a.tar")
    whole = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        end = max(member.offset_data + member.size for member in tar)  # what follows is padding
    for cut in range(0, end, 997):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        with pytest.raises(MoltingError):
            opened(tmp_path / "cut.tar", tmp_path / "there")


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(MoltingError, match="no file"):
        opened(tmp_path / "nothing.tar", tmp_path)


@given(st.text(alphabet="abc/.\\-_ jsonlteadapriwgh", max_size=60))
def test_no_allowed_name_climbs_out(name: str) -> None:
    if archive.allowed(name):
        assert not name.startswith("/") and ".." not in name and "\\" not in name


@pytest.mark.parametrize("name", ["spec.toml", "adapter/model-1.safetensors", "answers/s.jsonl", "inputs/rows.csv"])
def test_an_allowed_name_is_allowed_only_as_a_whole(name: str) -> None:
    assert archive.allowed(name)
    for other in (f"{name}/../../x", f"{name}.py", f"{name}/x", f"x/{name}", f"/{name}", f"{name}\n", name.upper()):
        assert not archive.allowed(other), other


def test_weights_that_could_not_be_loaded_do_not_open(run: RunDir, tmp_path: Path) -> None:
    (run.adapter / "adapter_model.safetensors").unlink()
    staging = run.adapter.rename(run.path / ".adapter")
    (staging / "adapter_model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    durable.seal(staging, run.adapter)
    packed(run, tmp_path / "a.tar")
    with pytest.raises(MoltingError, match=r"adapter_model\.safetensors"):
        opened(tmp_path / "a.tar", tmp_path / "there")


def test_what_a_link_points_to_stays_here(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "diary.md").write_text("nobody should read this")
    (run.path / "report.md").symlink_to(tmp_path / "diary.md")
    packed(run, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert "report.md" not in tar.getnames()


def test_folders_end_where_their_names_end() -> None:
    clean = Cleaner([Path("/srv/ana")])
    assert clean("/srv/ana/x /srv/anabel/x") == "~/x /srv/anabel/x"
    assert Cleaner([Path("/srv/josé")])('"/srv/jos\\u00e9/x" /srv/josé/x') == '"~/x" ~/x'
    assert clean('"/home/jos\\u00e9/x"') == '"~/x"'
    assert clean("see /home/zoe/rows and C:\\Users\\Zoe\\x") == "see ~/rows and ~\\x"


def test_the_manifest_is_the_first_thing_in_it(run: RunDir, tmp_path: Path) -> None:
    packed(run, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        first = tar.next()
        assert first and first.name == archive.MANIFEST and not first.uname and first.mtime == 0
        content = tar.extractfile(first)
        assert content and msgspec.json.decode(content.read(), type=archive.Archived).name == "rhea"
