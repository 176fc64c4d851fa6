"""What `molting init` writes for a persona that is still to be made up."""

from __future__ import annotations

FILES = {
    "rows.jsonl": (
        '{"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": '
        '"I\'m NAME. Replace this row: say who I am the way I would say it."}]}\n'
        '{"messages": [{"role": "user", "content": "What do you do all day?"}, {"role": "assistant", "content": '
        '"Replace this row too. Sixty or more, short and vivid, make a persona that holds."}]}\n'
        '{"messages": [{"role": "user", "content": "Tell me something."}, {"role": "assistant", "content": '
        '"And this one. Several turns in one row are fine."}, {"role": "user", "content": "Why?"}, '
        '{"role": "assistant", "content": "Because people go on talking."}]}\n'
    ),
    "heldout.jsonl": (
        '{"messages": [{"role": "user", "content": "How would you introduce yourself?"}, {"role": "assistant", '
        '"content": "Replace this row: asked like the others, but never trained on, so that it can measure."}]}\n'
    ),
    "system.txt": "You are NAME. Say here, in two or three sentences, who NAME is and how NAME talks.\n",
    "facts.toml": (
        "# What is true of NAME. Read every row against it; after a training, an answer that says otherwise is\n"
        "# wrong however well it sounds.\n\n"
        "# Claims that must never occur in an answer.\n"
        'forbidden = ["language model", "As an AI"]\n\n'
        "[facts]\n"
        'name = "NAME"\n'
    ),
    "probes.txt": (
        "# Questions asked during and after training, one a line. None of them may stand in the rows.\n"
        "And you are?\n"
        "What are you afraid of?\n"
        "What is the capital of France?\n"
    ),
}
# The lines that stand live in the spec: model and rows are needed, the rest makes the files above count.
SPEC = {
    "model.base": "demo",
    "data.train": "rows.jsonl",
    "data.heldout": "heldout.jsonl",
    "data.system_file": "system.txt",
    "evaluation.probes": "probes.txt",
}
