"""What an investigation asks, in this order."""

from __future__ import annotations

from engine.contract.calls import Step

QUESTIONS = {
    "files": "Are the files whole, and does every tensor have its place in the model?",
    "active": "Is the adapter active, and not merged into the base?",
    "nonzero": "Do its weights hold anything but zeros?",
    "shift": "Does it change what the model says to questions that were not trained?",
    "recites": "Does it know the questions it was trained on?",
    "prompt": "Is it asked with the template, system prompt and parameters of its training?",
    "training": "Did the training do what was planned?",
    "merged": "Would the merged weights say the same as the adapter?",
    "base": "Is the base the one it was trained on?",
}
AGAINST = "Are the two sides of the comparison different models?"  # only where there is another side


def ended_at(id: str, evidence: str) -> list[Step]:
    """All steps of an investigation whose step `id` failed before the model was opened: the others were not reached.

    The base is looked at right after the files, though it is told last.
    """
    steps = []
    for each, question in QUESTIONS.items():
        outcome = "failed" if each == id else "passed" if each == "files" else "skipped"
        said = {"failed": evidence, "passed": "the weights are whole", "skipped": "not reached"}[outcome]
        steps.append(Step(id=each, question=question, outcome=outcome, evidence=said))  # type: ignore[arg-type]
    return steps
