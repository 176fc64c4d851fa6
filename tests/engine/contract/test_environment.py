from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.contract.environment import clean_env, local_dir, runtime_dir
from engine.contract.errors import MoltingError

SECRETS = {
    "HF_TOKEN": "abc",
    "HUGGING_FACE_HUB_TOKEN": "abc",
    "GH_TOKEN": "abc",
    "MY_API_KEY": "abc",
    "OPENAI_API_KEY": "abc",
    "OPENAI_ORG": "abc",
    "AWS_SECRET_ACCESS_KEY": "abc",
    "AWS_PROFILE": "abc",
    "WANDB_ENTITY": "abc",
    "DB_PASSWORD": "abc",
    "PGPASSWORD": "abc",
    "client_secret": "abc",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/x/key.json",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "https_proxy": "http://user:pass@proxy:3128",
    "EXTRA": "Authorization: Bearer abcdefghijk",
    "NOTE": "hf_abcdefghijklmnop",
}
KEPT = {
    "PATH": "/usr/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "0",
    "OMP_NUM_THREADS": "1",
    "HF_HOME": "/data/hf_cache",
    "HF_ENDPOINT": "http://localhost:8000",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": "/x",
    "MAX_TOKENS": "80",
    "MONKEY": "1",
    "KEYBOARD": "pt",
}


def test_secrets_go_and_the_rest_stays() -> None:
    assert clean_env(SECRETS | KEPT) == KEPT


def test_by_default_it_is_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "abc")
    found = clean_env()
    assert "HF_TOKEN" not in found and found["PATH"] == os.environ["PATH"]


def test_the_local_folder_does_not_depend_on_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLTING_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/somewhere")
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert local_dir() == Path(f"/tmp/molting-{os.getuid()}")


def test_the_runtime_folder_is_that_of_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MOLTING_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_dir() == tmp_path / "molting" and (tmp_path / "molting").stat().st_mode & 0o777 == 0o700
    for useless in ("relative/path", str(tmp_path / "missing")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert runtime_dir() == local_dir()
    if os.getuid() == 0:
        os.chown(tmp_path, 12345, -1)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        assert runtime_dir() == local_dir(), "another user's folder, as after sudo"
        os.chown(tmp_path, 0, -1)


def test_what_is_not_private_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "open").mkdir(mode=0o700)
    (tmp_path / "open").chmod(0o750)
    (tmp_path / "file").touch()
    for name in ("link", "open", "file", "missing/below"):
        monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / name))
        with pytest.raises(MoltingError, match=name):
            runtime_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, -1)
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / "theirs"))
    with pytest.raises(MoltingError, match="only this user"):
        local_dir()
