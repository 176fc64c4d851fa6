"""What the engine computes from gradings: verbs `cycle`, `compare` and `prechecks` (`engine.evaluate`).

Scores are out of 10 and never rounded here. Intervals are 95 %. None: it cannot be computed (too few questions).
"""

from __future__ import annotations

from typing import Literal, Union

import msgspec

from .rubric import Rubric
from .severity import Severity

Verdict = Literal["better", "worse", "no detectable change", "inconclusive", "not comparable"]
Number = Union[float, None]


class Part(msgspec.Struct, kw_only=True):
    """Points of some of the answers, and how many answers those are."""

    raw: float
    max: float
    score: Number
    answers: int


class DimensionScore(msgspec.Struct, kw_only=True):
    """`raw` points of `max`, turned where lower is better; `levels` counts the answers at each level, lowest first."""

    id: str
    name: str
    higher_is_better: bool
    raw: int
    max: int
    score: Number
    levels: list[int]


class AnswerScore(msgspec.Struct, kw_only=True):
    """One graded answer: `cells` as they count, `own` as the rater typed them (where a pre-check was accepted)."""

    slot: str
    question_id: str
    question: str
    voice: str
    sample: int
    answer: str
    stop: str
    raw: float
    max: float
    score: Number
    seen: Union[bool, None]  # whether the question stands in the training rows; None: the rows are not known
    cells: dict[str, int] = {}
    own: dict[str, int] = {}
    comments: dict[str, str] = {}
    flagged: bool = False
    unfounded: list[str] = []  # quoted words that do not stand in the answer


class Anchor(msgspec.Struct, kw_only=True):
    """How a calibration answer was graded. Passed: no level off by more than one, fewer than half off at all."""

    question: str
    expected: dict[str, int]
    given: dict[str, int]
    passed: bool


class Cycle(msgspec.Struct, kw_only=True):
    """One complete grading of one run's answers, counted. `interval` is Student's t over the questions."""

    run: str
    name: str
    rater: str
    kind: str  # of rater: person, model, unknown
    blind: Union[bool, None]
    origin: str
    rubric: str
    rubric_hash: str
    sheet: str
    voice: str
    grades: str  # file name
    raw: float
    max: float
    score: float
    band: str
    interval: Union[tuple[float, float], None]
    dimensions: list[DimensionScore]
    answers: list[AnswerScore]
    seen: Union[Part, None]
    unseen: Union[Part, None]
    cut: int  # answers that hit the cap, or seem to where that was not recorded
    cut_recorded: bool
    rule_hits: dict[str, int]  # rule -> answers it fires on
    repeated: int = 0  # cells of duplicates, and how many of them were graded the same
    repeated_same: int = 0
    anchors: list[Anchor] = []
    skipped: int = 0
    seconds: float = 0.0  # spent grading
    warnings: list[str] = []


class Different(msgspec.Struct, kw_only=True):
    """One thing that is not the same in both. `group` is what it belongs to: rows, system prompt, method …"""

    what: str
    a: str
    b: str
    group: str = ""


class Differs(msgspec.Struct, kw_only=True):
    """`instrument`: how it was measured, which forbids a comparison. `treatment`: what was changed on purpose."""

    instrument: list[Different] = []
    treatment: list[Different] = []


class QuestionDifference(msgspec.Struct, kw_only=True):
    """Scores of one question out of 10, the mean over its samples; `difference` is b - a."""

    id: str
    question: str
    a: float
    b: float
    difference: float


class DimensionDifference(msgspec.Struct, kw_only=True):
    """Mean levels turned into points out of 10, exact sign-flip p, and the same after Holm's correction.
    `interval` is that of the difference, Student's t over the questions."""

    id: str
    name: str
    a: float
    b: float
    difference: float
    p: Number
    holm: Number
    n: int
    interval: Union[tuple[float, float], None] = None


class Comparison(msgspec.Struct, kw_only=True):
    """B against A. `difference` is the mean over questions of b - a, in points of 10; numbers are None where nothing
    can be compared."""

    verdict: Verdict
    sentence: str
    difference: Number
    p: Number
    interval: Union[tuple[float, float], None]
    mdd: Number  # smallest true difference that n questions of this spread would show with a chance of 80 %
    sd: Number
    n: int
    smallest_p: Number  # that n questions can reach at all
    exact: bool  # every sign flip was counted; else they were sampled with a fixed seed
    wins: int
    ties: int
    losses: int
    differs: Differs
    questions: list[QuestionDifference] = []
    dimensions: list[DimensionDifference] = []
    a: Union[Cycle, None] = None
    b: Union[Cycle, None] = None
    regrade: str = ""  # the command that would make both comparable
    warnings: list[str] = []


class Agreement(msgspec.Struct, kw_only=True):
    """How far two raters of the same answers agree. `enough` is false under 20 cells: too few to judge."""

    one: str
    two: str
    cells: int
    agreement: Number  # share of equal cells
    kappa: Number  # Cohen's, quadratic weights
    alpha: Number  # Krippendorff's, ordinal
    ac2: Number  # Gwet's, quadratic weights
    enough: bool


class PairsResult(msgspec.Struct, kw_only=True):
    """One pairwise grading. `one` and `two` are wins of either side; `p` is the exact sign test without the ties."""

    rater: str
    sides: list[str]
    one: int
    two: int
    ties: int
    bad: int
    p: Number
    complete: bool


class Evaluation(msgspec.Struct, kw_only=True):
    """Result of `cycle`: all there is of one run. `main` is what `molting runs` shows the score of."""

    run: str
    main: Union[Cycle, None]
    others: list[Cycle] = []
    agreements: list[Agreement] = []
    pairs: list[PairsResult] = []
    problems: list[str] = []


class CycleRequest(msgspec.Struct, kw_only=True):
    run: str


class CompareRequest(msgspec.Struct, kw_only=True):
    """Run directories. `base`: the base voice of `b` is compared with its adapter, and `a` is not used."""

    b: str
    a: str = ""
    base: bool = False
    rater: str = ""


class AnswersRequest(msgspec.Struct, kw_only=True):
    """Verb `answers`. `rubric` is a file; `checkpoint` answers with the weights of that step instead of the last."""

    run: str
    models: str
    rubric: str
    samples: int = 0
    checkpoint: Union[int, None] = None
    base: bool = True
    temperature: Number = None  # of the samples
    seed: int = 0


class Answered(msgspec.Struct, kw_only=True):
    """`sheet` is its name, `items` how many answers it holds."""

    run: str
    sheet: str
    path: str
    items: int
    cut: int
    seconds: float = 0.0
    warnings: list[str] = []


class ImportRequest(msgspec.Struct, kw_only=True):
    """Verb `import`. An empty `rubric`: the shipped one that fits the questions."""

    answers: str
    scores: str
    name: str
    runs: str
    rater: str = ""
    rubric: str = ""


class Problem(msgspec.Struct, kw_only=True):
    """Something found while importing. `id` is stable."""

    id: str
    severity: Severity
    message: str
    question: str = ""


class Imported(msgspec.Struct, kw_only=True):
    run: str
    path: str
    name: str
    raw: float
    max: float
    score: float
    band: str
    rater: str
    rubric: str
    answers: int
    shape: str
    problems: list[Problem] = []


class PrechecksRequest(msgspec.Struct, kw_only=True):
    """Verb `prechecks`: what the rules say of every answer of a sheet. `rubric`: by another than the sheet's own."""

    sheet: str
    rubric: Union[Rubric, None] = None


class Hit(msgspec.Struct, kw_only=True):
    """A rule fired. `spans` are [start, end) characters of the answer; `level` is the one that `zero` suggests."""

    rule: str
    about: str
    effect: Literal["zero", "signal"]
    dimension: str
    spans: list[tuple[int, int]]
    level: Union[int, None] = None


class Prechecks(msgspec.Struct, kw_only=True):
    """By the id of the answer in the sheet, or `calibration-N`."""

    hits: dict[str, list[Hit]]


class JudgeRequest(msgspec.Struct, kw_only=True):
    """Verb `judge`. `sheet` and `rubric` are files; an empty `rubric`: the sheet's own. `base`: its answers too."""

    run: str
    sheet: str
    base_url: str
    model: str
    rubric: str = ""
    base: bool = False
    key: str = ""  # of the endpoint; said here because an environment can be read by others
    timeout: float = 60.0


class Judged(msgspec.Struct, kw_only=True):
    """What a judge graded; never part of a score. `discarded` counts cells that its two replies disagree about, or
    that no reply gave. `agreements`: with everybody else who graded the same answers."""

    run: str
    grades: str
    cycle: Cycle
    discarded: int
    agreements: list[Agreement] = []


class ReportRequest(msgspec.Struct, kw_only=True):
    """Verb `report`: run directories. An empty `against`: the parent run, where one is recorded."""

    run: str
    against: str = ""


class Reported(msgspec.Struct, kw_only=True):
    """`markdown` and `html` are the files; `sentence` is the verdict in words, `short` a few lines fit to post,
    `missing` what could not be told and why. `verdict`: None where nothing could be compared."""

    run: str
    markdown: str
    html: str
    verdict: Union[Verdict, None]
    sentence: str
    score: Number
    against: str
    short: str
    missing: list[str] = []
    warnings: list[str] = []
