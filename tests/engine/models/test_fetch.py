"""Models from folders, GGUF files and a stand-in hub; each hub case in a process of its own, as HF_ENDPOINT needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.errors import MoltingError
from engine.models.fetch import fetch, local_models, resolve
from engine.models.inspect import inspect_folder
from tests.support.hub import StandInHub, serving
from tests.support.tiny import tiny_llama

ROOT = Path(__file__).parents[3]
TOKEN = "hf_" + "a1B2" * 9
SCRIPT = """
import json, sys
from pathlib import Path
from engine.contract.errors import MoltingError
from engine.models.fetch import fetch, resolve
base, revision, models = sys.argv[1], sys.argv[2], Path(sys.argv[3])
marks = []
def progress(phase, done, total):
    if phase == "downloading the model":
        marks.append((done, total))
        print("at", done, flush=True)
try:
    ref = resolve(base, revision=revision, models_dir=models)
    folder = fetch(ref, models_dir=models, progress=progress)
    print(json.dumps({"folder": str(folder), "commit": ref.revision, "note": ref.note, "marks": marks}))
except MoltingError as error:
    print(json.dumps({"error": str(error), "code": error.code}))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StandInHub]:
    folder = tiny_llama(tmp_path / "served", hidden=256, layers=4)
    (folder / "pytorch_model.bin").write_bytes(b"never fetched" * 2000)
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    with serving(StandInHub({"org/tiny": folder})) as hub:
        yield hub


def start(url: str, models: Path, base: str = "org/tiny", revision: str = "", **env: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(models.parent / "hf-home"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "PYTHONPATH": str(ROOT),
        **env,
    }
    environment.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in env else None
    command = [sys.executable, "-c", SCRIPT, base, revision, str(models)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(url: str, models: Path, **options: str) -> dict[str, Any]:
    out, err = start(url, models, **options).communicate(timeout=120)
    assert out, err
    assert TOKEN not in out + err
    return json.loads(out.splitlines()[-1])


def test_downloads_what_is_harmless_pinned_to_the_commit(hub: StandInHub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    answer = run(hub.url, models)
    folder = Path(answer["folder"])
    assert answer["commit"] == hub.commit and hub.commit in folder.name
    assert not inspect_folder(folder)
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "served/model.safetensors").read_bytes()
    names = {path.name for path in folder.iterdir()}
    assert "tokenizer.json" in names and "chat_template.jinja" in names
    assert not names & {"pytorch_model.bin", "modeling_evil.py"}
    assert answer["marks"][-1][0] == answer["marks"][-1][1] == sum(path.stat().st_size for path in folder.iterdir())
    assert not [path for _, path, _ in hub.requests if path.endswith((".bin", ".py"))]

    before = len(hub.requests)
    again = run(hub.url, models, revision=hub.commit)
    assert again["folder"] == answer["folder"]
    assert len(hub.requests) == before, "a pinned model that is here needs no network"


def test_cut_connection_goes_on_where_it_broke(hub: StandInHub, tmp_path: Path) -> None:
    hub.cut_after["model.safetensors"] = 600_000
    answer = run(hub.url, tmp_path / "models")
    assert not inspect_folder(Path(answer["folder"]))
    ranges = [asked for _, path, asked in hub.requests if path.endswith("model.safetensors")]
    assert ranges[0] == "" and ranges[1].startswith("bytes=")
    size = (tmp_path / "served/model.safetensors").stat().st_size
    assert hub.sent["model.safetensors"] < size + (256 << 10), "at most one piece comes twice"


def test_killed_download_goes_on_where_it_was(hub: StandInHub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    hub.slow["model.safetensors"] = 0.2
    process = start(hub.url, models)
    part = models / ".partial" / f"org--tiny@{hub.commit}" / "model.safetensors.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 200_000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (models / f"org--tiny@{hub.commit}").exists(), "a model appears only when it is whole"

    reached, hub.slow = part.stat().st_size, {}
    time.sleep(0.5)  # let the server notice
    hub.sent.clear()
    answer = run(hub.url, models)
    assert not inspect_folder(Path(answer["folder"]))
    size = (tmp_path / "served/model.safetensors").stat().st_size
    assert hub.sent["model.safetensors"] == size - reached


def test_damage_on_the_way_is_noticed(hub: StandInHub, tmp_path: Path) -> None:
    hub.corrupt.add("model.safetensors")
    answer = run(hub.url, tmp_path / "models")
    assert "model.safetensors of org/tiny arrived damaged" in answer["error"]
    hub.corrupt.clear()
    assert not inspect_folder(Path(run(hub.url, tmp_path / "models")["folder"]))


def test_two_processes_at_once_share_one_download(hub: StandInHub, tmp_path: Path) -> None:
    hub.slow["model.safetensors"] = 0.05
    both = [start(hub.url, tmp_path / "models") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in both]
    assert answers[0]["folder"] == answers[1]["folder"]
    assert len([path for _, path, _ in hub.requests if path.endswith("model.safetensors")]) == 1


def test_unknown_model_and_revision(hub: StandInHub, tmp_path: Path) -> None:
    unknown = run(hub.url, tmp_path / "models", base="org/tinny")
    assert "shows no model org/tinny" in unknown["error"] and unknown["code"] == 2
    revision = run(hub.url, tmp_path / "models", revision="v9")
    assert "org/tiny has no revision 'v9'" in revision["error"] and revision["code"] == 2


def test_gated_model_says_so_and_opens_with_a_token(hub: StandInHub, tmp_path: Path) -> None:
    hub.gated.add("org/tiny")
    refused = run(hub.url, tmp_path / "models")
    assert "org/tiny is gated" in refused["error"] and "HF_TOKEN" in refused["error"]
    answer = run(hub.url, tmp_path / "models", HF_TOKEN=TOKEN)
    assert f"Bearer {TOKEN}" in hub.tokens
    saved = b"".join(path.read_bytes() for path in Path(answer["folder"]).parent.rglob("*") if path.is_file())
    assert TOKEN.encode() not in saved


def test_offline_names_what_is_here(hub: StandInHub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    tiny_llama(models / "my-model")
    nobody = "http://user:secret@127.0.0.1:9"
    answer = run(nobody, models)
    assert "cannot be reached for org/tiny" in answer["error"]
    assert "my-model" in answer["error"] and "go online" in answer["error"]
    assert "secret" not in answer["error"]
    assert "cannot be reached" in run(hub.url, models, HF_HUB_OFFLINE="1")["error"]

    run(hub.url, models)
    copy = run(nobody, models)
    assert copy["commit"] == hub.commit
    assert "The copy on this machine is used" in copy["note"]


def test_snapshot_in_the_hub_cache_is_used(tmp_path: Path) -> None:
    commit = "b" * 40
    repo = tmp_path / "hf-home" / "hub" / "models--org--cached"
    tiny_llama(repo / "snapshots" / commit)
    config = repo / "snapshots" / commit / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "x.Y"}}))
    (repo / "refs").mkdir()
    (repo / "refs" / "v1").write_text(commit)
    answer = run("http://127.0.0.1:9", tmp_path / "models", base="org/cached", revision="v1")
    assert answer["commit"] == commit
    assert not inspect_folder(Path(answer["folder"]))
    assert "auto_map" in config.read_text(), "another program's file stays as it is"
    weights = repo / "snapshots" / commit / "model.safetensors"
    assert weights.samefile(Path(answer["folder"]) / "model.safetensors")


def test_code_is_dropped_only_where_the_architecture_is_built_in(hub: StandInHub, tmp_path: Path) -> None:
    config = tmp_path / "served" / "config.json"
    own = {**json.loads(config.read_text()), "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}
    config.write_text(json.dumps(own))
    folder = Path(run(hub.url, tmp_path / "models")["folder"])
    assert "auto_map" not in (folder / "config.json").read_text()

    config.write_text(json.dumps({**own, "model_type": "evil"}))
    hub.commit = "c" * 40
    refused = run(hub.url, tmp_path / "models")
    assert "asks for code of its own" in refused["error"]


def test_repository_without_safetensors(hub: StandInHub, tmp_path: Path) -> None:
    (tmp_path / "served" / "model.safetensors").unlink()
    answer = run(hub.url, tmp_path / "models")
    assert "org/tiny has no weights as safetensors" in answer["error"]


def test_folder_and_name_in_models_dir(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "models" / "mine")
    assert resolve(str(folder), models_dir=tmp_path / "models").kind == "folder"
    ref = resolve("mine", models_dir=tmp_path / "models")
    assert fetch(ref, models_dir=tmp_path / "models") == folder
    assert local_models(tmp_path / "models")[0] == "mine"


@pytest.mark.parametrize(
    "base", ["./tyni", "tyni", "../x/y/z", "a/b/c", "-rf", "x" * 300, "", "a\nb", "a\0b", "~nobody/x"]
)
def test_what_is_not_there_is_told_with_the_nearest(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MoltingError) as caught:
        fetch(resolve(base, models_dir=tmp_path / "models"), models_dir=tmp_path / "models")
    assert "There is no model" in caught.value.message or "no config.json" in caught.value.message
    if "tyni" in base:
        assert str(tmp_path / "tiny") in caught.value.message


def test_the_demo_model_misspelt_is_not_taken_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MoltingError, match=r"There is no model 'dmeo'\. The nearest there is: demo\."):
        resolve("dmeo", models_dir=tmp_path / "models")


def test_file_that_is_no_model_and_fifo(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(MoltingError, match="a file must be GGUF"):
        resolve(str(tmp_path / "rows.jsonl"), models_dir=tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(MoltingError, match="neither a folder nor a file"):
        resolve(str(tmp_path / "pipe.gguf"), models_dir=tmp_path)
