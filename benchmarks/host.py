"""What the inference host gains: one batch for both voices, many questions at once, and a model that stays warm.

    python benchmarks/host.py [--run RUN_DIR] [--models DIR] [--gguf FILE]

Without --run, the newest finished run of the runs folder. With --gguf, llama.cpp answers the same prompts as often
with a GGUF of the model, each sequence in a slot of its own (`pip install xllamacpp`); it has one voice only. Tokens
are made, not capped by an end token: every answer has the same length on both sides of a comparison. Medians of
`REPEATS`, the two sides in turns. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from engine.contract import host, places, summary
from engine.contract.host_client import Client, Gone, end
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation

REPEATS = 3
QUESTIONS = [
    "Who are you?", "Where do you live?", "What do you like?", "Who built you?",
    "Tell me about the sea.", "What is the capital of France?", "How does a bicycle work?", "Say goodbye.",
]  # fmt: skip
TOKENS = 48
LIMITS = {"one question": 1.35, "eight questions": 4.5}
WARM_LIMIT = 0.5  # seconds to the first token
READING = 5.0  # seconds that somebody reads an answer before asking on


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(slow: Callable[[], Any], fast: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of both; the first round is thrown away."""
    rounds = [(seconds(slow), seconds(fast)) for _ in range(REPEATS + 1)][1:]
    return statistics.median(a for a, _ in rounds), statistics.median(b for _, b in rounds)


def batches(run: RunDir, models: Path, gguf: Path | None) -> list[tuple[str, float, float, float | None]]:
    """(comparison, seconds of the slow way, seconds of ours, seconds of llama.cpp)."""
    from engine.infer.generate import generate
    from engine.infer.session import open_session
    from engine.infer.voices import generate_both

    session = open_session(run, models, lambda line: None)
    options = Generation(max_new_tokens=TOKENS)
    settings: dict[str, Any] = {"stop_ids": [], "pad_id": session.encoder.stop_ids[0], "options": options}
    prompts = session.prompts(QUESTIONS)

    def alone(some: list[list[int]]) -> None:
        for prompt in some:
            with session.voices.as_base() as model:
                generate(model, [prompt], **settings)
            with session.voices.as_tuned() as model:
                generate(model, [prompt], **settings)

    def together(some: list[list[int]]) -> None:
        generate_both(session.voices, some, **settings)

    found = [
        ("one question", *in_turns(lambda: alone(prompts[:1]), lambda: together(prompts[:1]))),
        ("eight questions", *in_turns(lambda: alone(prompts), lambda: together(prompts))),
    ]
    asked = (prompts[:1], prompts)
    return [(*each, llama_cpp(gguf, some) if gguf else None) for each, some in zip(found, asked, strict=True)]


def llama_cpp(gguf: Path, prompts: list[list[int]]) -> float:
    """Median seconds in which llama.cpp answers each prompt twice, all at once; it keeps prompts that it has read."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_parallel = 2 * len(prompts)
    params.n_ctx = params.n_parallel * (max(map(len, prompts)) + 2 * TOKENS)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    params.verbosity = -1
    server = xllamacpp.Server(params)

    def answer(prompt: list[int]) -> None:
        wanted = {"prompt": prompt, "n_predict": TOKENS, "ignore_eos": True, "temperature": 0.0}
        made = server.handle_completions(wanted)["usage"]["completion_tokens"]
        assert made == TOKENS, f"llama.cpp made {made} tokens instead of {TOKENS}"

    with ThreadPoolExecutor(params.n_parallel) as pool:
        rounds = [seconds(lambda: list(pool.map(answer, 2 * prompts))) for _ in range(REPEATS + 1)][1:]
    return statistics.median(rounds)


def to_first(path: Path, run: RunDir, models: Path) -> float:
    """Seconds from connecting to the first token, as a user who opens the chat sees it."""
    said = [host.Message("user", QUESTIONS[0])]
    voices = [host.Voice(source=host.Source(kind=kind), messages=said) for kind in ("base", "adapter")]
    began = time.perf_counter()
    while True:
        try:
            client = Client(path, "benchmark")
            break
        except Gone:
            time.sleep(0.005)
    with client:
        client.send(host.Chat(id="1", run=str(run.path), models=str(models), voices=voices))
        while not isinstance(reply := client.receive(), host.Delta):
            assert not isinstance(reply, host.Failure), reply
        return time.perf_counter() - began


def go_on(path: Path, run: RunDir, models: Path) -> tuple[int, float, float]:
    """A conversation of all questions, each voice with its own history: tokens before the last one, and seconds to
    its first token where somebody reads before asking, and where all of it is new to the host."""
    options = Generation(max_new_tokens=TOKENS)

    def ask(client: Client, histories: list[list[host.Message]], question: str) -> tuple[int, float, list[str]]:
        voices = [
            host.Voice(source=host.Source(kind=kind), messages=[*said, host.Message("user", question)])
            for kind, said in zip(("base", "adapter"), histories, strict=True)
        ]
        request = host.Chat(id="1", run=str(run.path), models=str(models), voices=voices, options=options, goes_on=True)
        began, first, texts = time.perf_counter(), 0.0, ["", ""]
        for reply in client.replies(request):
            assert not isinstance(reply, host.Failure), reply
            if isinstance(reply, host.Began):
                tokens = max(reply.prompt_tokens)
            elif isinstance(reply, host.Delta):
                first = first or time.perf_counter() - began
            elif isinstance(reply, host.VoiceDone):
                texts[reply.voice] = reply.text
        return tokens, first, texts

    histories: list[list[host.Message]] = [[], []]
    with Client(path, "benchmark") as client:
        for question in QUESTIONS[:-1]:
            _, _, texts = ask(client, histories, question)
            for said, text in zip(histories, texts, strict=True):
                said += [host.Message("user", question), host.Message("assistant", text)]
        time.sleep(READING)
        tokens, known, _ = ask(client, histories, QUESTIONS[-1])
        for said in histories:
            said[0] = host.Message("user", "Begun in another way: who are you?")
        _, new, _ = ask(client, histories, QUESTIONS[-1])
    return tokens, known, new


def starts(run: RunDir, models: Path) -> tuple[float, float, tuple[int, float, float]]:
    """Seconds to the first token of a host that starts, and of one that is warm; and what `go_on` gives."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "host-cpu.sock"
        env = os.environ | {"MOLTING_RUNTIME_DIR": folder, "CUDA_VISIBLE_DEVICES": ""}
        cold = []
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-I", "-m", "engine", "host", "cpu"], env=env)
            cold.append(to_first(path, run, models))
            warm = [to_first(path, run, models) for _ in range(5)]
            if len(cold) == 2:
                gone_on = go_on(path, run, models)
            end(path)
            process.wait()
    return statistics.median(cold), statistics.median(warm), gone_on


def newest_finished() -> RunDir:
    found = [RunDir(path.parent) for path in places.runs_dir().glob("*/adapter")]
    if not found:
        sys.exit("There is no finished run: give one by --run.")
    return max(found, key=lambda run: run.adapter.stat().st_mtime)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--models", type=Path, default=places.models_dir())
    parser.add_argument("--gguf", type=Path)
    given = parser.parse_args()
    run = RunDir(given.run.absolute()) if given.run else newest_finished()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    base = summary.load_spec(run).model.base.rpartition("/")[2]
    print(f"{base}, {TOKENS} tokens an answer, median of {REPEATS}; {os.cpu_count()} cores, load {load}")
    missed = 0
    print(
        f"{'both voices':<18}{'one by one tok/s':>18}{'one batch tok/s':>17}{'ratio':>8}"
        f"{'llama.cpp tok/s':>17}  limit of the ratio"
    )
    for name, slow, fast, llama in batches(run, given.models, given.gguf):
        tokens = 2 * TOKENS * (1 if name == "one question" else len(QUESTIONS))
        bad = slow / fast < LIMITS[name]
        peer = f"{tokens / llama:.0f}" if llama else "no --gguf"
        missed += bad
        print(
            f"{name:<18}{tokens / slow:>18.0f}{tokens / fast:>17.0f}{slow / fast:>8.2f}"
            f"{peer:>17}  >= {LIMITS[name]}{'   MISSED' if bad else ''}"
        )
    cold, warm, (tokens, known, new) = starts(run, given.models)
    for what, took in ((f"cold start {cold:.2f} s, warm", warm), (f"in a conversation of {tokens} tokens", known)):
        missed += took > WARM_LIMIT
        print(f"first token: {what} {took:.2f} s  <= {WARM_LIMIT}{'   MISSED' if took > WARM_LIMIT else ''}")
    print(f"             of a conversation that the host has not heard before {new:.2f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
