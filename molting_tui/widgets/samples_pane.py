"""What the model in training answers to the probe questions, step by step, the latest first."""

from __future__ import annotations

from .. import text
from ..state.lines import Line, clipped
from ..state.live import LiveRun
from ..state.records import Answer
from .lines_pane import LinesPane

_INDENT = 3
_BEFORE = 3  # earlier answers shown below, where there is room


class SamplesPane(LinesPane):
    """Shows the latest step until an older one is chosen; below each answer the ones before it, dim."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.empty = "No samples yet."
        self._run = LiveRun()
        self._chosen: int | None = None  # a step; None: the latest

    def show(self, run: LiveRun) -> None:
        """Show this run's samples from the next repaint on."""
        self._run = run

    def steps(self) -> list[int]:
        """Steps at which something was asked, and not done again since."""
        every = (answer for answers in self._run.samples.values() for answer in answers)
        return sorted({answer.step for answer in every if not answer.rewound})

    def move(self, by: int) -> None:
        """To an older step, or a newer one where `by` is positive."""
        steps = self.steps()
        if not steps:
            return
        place = steps.index(self._chosen) if self._chosen in steps else len(steps) - 1
        place = max(0, min(place + by, len(steps) - 1))
        self._chosen = None if place == len(steps) - 1 else steps[place]
        self._go(0)

    def heading(self) -> str:
        steps = self.steps()
        if not steps:
            return "samples"
        step = self._step(steps)
        newer = "" if self._chosen is None else ", ] newer"
        older = "" if step == steps[0] else ", [ older"
        return f"samples  step {step}, {steps.index(step) + 1} of {len(steps)}{older}{newer}"

    def lines(self, width: int) -> list[Line]:
        steps, watched = self.steps(), self._run.overfit.lines(width)
        if not steps:
            return watched or [[(row, "dim")] for row in text.wrap(self.empty, width)]
        step = self._step(steps)
        found = [*watched, [("", "dim")]] if watched else []
        asked = [(q, at) for q, at in enumerate(self._run.samples.values(), 1) if any(a.step <= step for a in at)]
        before = self._room(asked, step, width)
        for number, answers in asked:
            found += self._answers(number, answers, step, width, before)
        return found

    def one_line(self, width: int) -> Line:
        steps = self.steps()
        if not steps:
            return clipped([("samples  ", "bold"), (self.empty, "dim")], width)
        step = self._step(steps)
        for number, (question, answers) in enumerate(self._run.samples.items(), 1):
            at = _at(answers, step)
            if at and at[0].step == step:
                head: Line = [("samples  ", "bold"), (f"step {step}  Q{number} {_flat(question)}  ", "dim")]
                return clipped([*head, (_flat(at[0].text), "answer")], width)
        return []

    def copyable(self) -> str:
        """The answers of the step, as text."""
        steps = self.steps()
        if not steps:
            return ""
        found = []
        for question, answers in self._run.samples.items():
            found += [f"{question}\n{each.text}\n" for each in _at(answers, self._step(steps))[:1]]
        return "\n".join(found)

    def _step(self, steps: list[int]) -> int:
        return self._chosen if self._chosen in steps else steps[-1]

    def _room(self, asked: list[tuple[int, list[Answer]]], step: int, width: int) -> int:
        """How many earlier answers may follow each, so that the present ones stay in sight."""
        for before in range(_BEFORE, 0, -1):
            if sum(len(self._answers(q, at, step, width, before)) for q, at in asked) <= self.size.height:
                return before
        return 0

    def _answers(self, number: int, answers: list[Answer], step: int, width: int, before: int) -> list[Line]:
        question = list(self._run.samples)[number - 1]
        now, *earlier = _at(answers, step)
        mark = f"Q{number}"
        rows: list[Line] = []
        for place, row in enumerate(text.wrap(_flat(question), width - _INDENT)):
            rows.append([(f"{'' if place else mark:<{_INDENT}}", "dim"), (row, "bold")])
        end = "" if now.stop == "end" else f"  cut at {now.tokens}"
        late = "" if now.step == step else f"  of step {now.step}"
        for place, row in enumerate(text.wrap(now.text or "(nothing)", width - _INDENT)):
            rows.append([(f"{'' if place else 'A':<{_INDENT}}", "answer"), (row, "answer")])
        if end or late:
            rows[-1] = clipped([*rows[-1], (end + late, "dim")], width)
        for each in earlier[:before]:
            rows.append(clipped([(" " * _INDENT + f"{each.step:>5}  {_flat(each.text)}", "dim")], width))
        return rows


def _at(answers: list[Answer], step: int) -> list[Answer]:
    """Those up to `step` that were not done again, the latest first."""
    return sorted((each for each in answers if each.step <= step and not each.rewound), key=lambda each: -each.step)


def _flat(said: str) -> str:
    return " ".join(said.split())
