"""The sections on what was answered and how it was graded: grid, comparison, measures, answers, limits. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from engine.contract.verdict import Agreement, AnswerScore, Comparison, Cycle, PairsResult

from .report_blocks import Block, Bullets, Paragraph, Plot, Section, Table, Verbatim
from .report_facts import Facts
from .report_numbers import between, count, duration, points, probability, share, signed
from .report_plots import Pair, Span, dots, spans

_KINDS = {"person": "a person", "model": "an AI model", "unknown": "nobody knows what kind of rater"}


def rater(cycle: Cycle) -> str:
    """Who graded, in words."""
    blind = {True: "blind", False: "not blind", None: "not known to be blind"}[cycle.blind]
    return f"{cycle.rater} ({_KINDS.get(cycle.kind, cycle.kind)}, {blind})"


def score(cycle: Cycle) -> str:
    """The score in one line."""
    band = f", {cycle.band}" if cycle.band else ""
    return f"{points(cycle.score)} of 10 ({cycle.raw:g}/{cycle.max:g} points{band}), 95 % {between(cycle.interval)}"


def graded(facts: Facts) -> Section:
    """The grid: every answer, every dimension, and the reasons that were given."""
    cycle = facts.cycle
    if cycle is None:
        answered = f"`molting grade {facts.run.id}`" if facts.sheet else f"`molting answers {facts.run.id}` comes first"
        return Section("Grades", [Paragraph(f"Nobody has graded this run to the end: {answered}.")])
    names = [each.id for each in cycle.dimensions]
    many = any(each.sample for each in cycle.answers)
    rows = [
        [
            f"{each.question_id}{f', sample {each.sample}' if many else ''} {each.question}",
            *(_cell(each, name) for name in names),
            share(each.raw, each.max),
        ]
        for each in cycle.answers
    ]
    right = frozenset(range(1, len(names) + 2))
    blocks: list[Block] = [
        Paragraph(score(cycle), strong=True),
        Paragraph(f"Graded by {rater(cycle)}, rubric {cycle.rubric}, sheet {cycle.sheet}, voice {cycle.voice}."),
        Table(["question", *names, "points"], rows, right),
        Table(
            ["dimension", "score", "points", "answers at each level"],
            [_dimension(each.id, each.name, each.score, each.raw, each.max, each.levels) for each in cycle.dimensions],
            frozenset({1, 2}),
        ),
    ]
    reasons = list(_reasons(cycle.answers))
    blocks.append(Bullets(reasons) if reasons else Paragraph("No reasons were written."))
    if cycle.warnings:
        blocks += [Paragraph("To be careful about:"), Bullets(cycle.warnings)]
    return Section("Grades", blocks + _others(facts))


def _others(facts: Facts) -> list[Block]:
    """What else was graded: other raters and voices, which are never the headline, and pairs."""
    found = facts.evaluation
    if found is None:
        return []
    rows = [
        [rater(each), each.voice, each.rubric, points(each.score), share(each.raw, each.max)] for each in found.others
    ]
    blocks: list[Block] = []
    if rows:
        head = ["rater", "voice", "rubric", "score", "points"]
        blocks += [Paragraph("Other gradings of this run:"), Table(head, rows, frozenset({3, 4}))]
    pairs = [_pairs(each) for each in found.pairs if each.complete]
    return blocks + ([Paragraph("Pairs, judged side by side:"), Bullets(pairs)] if pairs else [])


def _pairs(found: PairsResult) -> str:
    one, two = (*found.sides, "one", "two")[:2]
    won = f"{one} won {found.one}, {two} won {found.two}, tied {found.ties}, both bad {found.bad}"
    return f"{found.rater}: {won}; p of the sign test {probability(found.p)}"


def _cell(answer: AnswerScore, dimension: str) -> str:
    level = answer.cells.get(dimension)
    if level is None:
        return "–"
    own = answer.own.get(dimension, level)
    return str(level) if own == level else f"{level} (graded {own}, check accepted)"


def _dimension(id: str, name: str, score: float | None, raw: int, most: int, levels: list[int]) -> list[str]:
    return [f"{id} {name}", points(score), share(raw, most), ", ".join(map(str, levels))]


def _reasons(answers: Iterable[AnswerScore]) -> Iterable[str]:
    for each in answers:
        flag = " (flagged)" if each.flagged else ""
        for dimension, text in each.comments.items():
            yield f"{each.question_id}{f' {dimension}' if dimension else ''}{flag}: {text}"
        for words in each.unfounded:
            yield f"{each.question_id}: quotes {words!r}, which does not stand in the answer"


def comparison(facts: Facts) -> Section:
    """Against the run before, and against the base."""
    blocks: list[Block] = []
    if facts.comparison:
        blocks += _compared(facts.comparison, facts.other_name, facts.name)
    elif facts.other:
        blocks.append(Paragraph(f"{facts.other_name} and {facts.name} are not compared: one has no complete grading."))
    if facts.base:
        blocks.append(Paragraph("Base and adapter of this run, from one grading:"))
        blocks += _compared(facts.base, "base", "adapter")
    return Section("Comparison", blocks or [Paragraph("There is nothing to compare with.")])


def _compared(found: Comparison, before: str, after: str) -> list[Block]:
    blocks: list[Block] = [Paragraph(found.sentence, strong=True)]
    if found.n:
        pairs = [Pair(f"{each.id} {each.question}", each.a, each.b) for each in found.questions]
        middle = [Span("mean difference", found.difference or 0.0, found.interval)]
        middle += [Span(f"{each.id} {each.name}", each.difference, each.interval) for each in found.dimensions]
        blocks += [
            Plot(dots(pairs), f"Points of 10 per question: hollow {before}, filled {after}"),
            Plot(spans(middle), "Differences in points of 10; the bars are 95 % intervals, without correction"),
            Table(["question", before, after, "difference"], _questions(found), frozenset({1, 2, 3})),
            Table(["what", "value"], _numbers(found)),
        ]
    if found.dimensions:
        rows = [
            [f"{each.id} {each.name}", points(each.a), points(each.b), signed(each.difference), probability(each.holm)]
            for each in found.dimensions
        ]
        blocks.append(Table(["dimension", before, after, "difference", "p after Holm"], rows, frozenset({1, 2, 3, 4})))
    if found.warnings:
        blocks.append(Bullets(found.warnings))
    if found.regrade:
        blocks.append(Paragraph(f"To make them comparable: `{found.regrade}`"))
    return blocks


def _questions(found: Comparison) -> list[list[str]]:
    return [
        [f"{each.id} {each.question}", points(each.a), points(each.b), signed(each.difference)]
        for each in found.questions
    ]


def _numbers(found: Comparison) -> list[list[str]]:
    exact = "exact" if found.exact else "drawn with a fixed seed"
    return [
        ["mean difference", f"{signed(found.difference)} of 10"],
        ["95 % interval (Student t)", between(found.interval, sign=True)],
        [f"p of the sign-flip test ({exact})", probability(found.p)],
        [f"smallest p that {found.n} questions reach", probability(found.smallest_p)],
        ["smallest difference seen with 80 % power", points(found.mdd)],
        ["won, tied, lost", f"{found.wins}, {found.ties}, {found.losses}"],
    ]


def measures(facts: Facts) -> Section:
    """What a machine counts, and what tells how far the grades can be believed."""
    cycle = facts.cycle
    if cycle is None:
        return Section("Automatic measures", [Paragraph("They come with the grades.")])
    n = len(cycle.answers)
    how = "by the token count" if cycle.cut_recorded else "as far as their ends tell: how they stopped was not recorded"
    rows = [[f"answers that ran into the cap ({how})", share(cycle.cut, n)]]
    rows += [[f"rule {name} fires on", share(hits, n)] for name, hits in sorted(cycle.rule_hits.items())]
    if cycle.seen and cycle.unseen:
        for title, part in (("asked in training", cycle.seen), ("new", cycle.unseen)):
            said = f"{points(part.score)} of 10" if part.answers else "none"
            rows.append([f"questions {title}: {part.answers}", said])
    same = share(cycle.repeated_same, cycle.repeated) if cycle.repeated else "no answer was graded twice"
    rows.append(["cells of repeated answers that were graded the same", same])
    passed = sum(anchor.passed for anchor in cycle.anchors)
    rows.append(
        ["calibration answers passed", share(passed, len(cycle.anchors)) if cycle.anchors else "none was graded"]
    )
    rows.append(["time spent grading", duration(cycle.seconds) if cycle.origin == "own" else "not recorded"])
    blocks: list[Block] = [Table(["what", "value"], rows)]
    found = facts.evaluation.agreements if facts.evaluation else []
    blocks += (
        [Paragraph("Agreement between raters:"), *map(_agreement, found)]
        if found
        else [Paragraph("One rater graded these answers: how far raters agree is not known.")]
    )
    return Section("Automatic measures", blocks)


def _agreement(found: Agreement) -> Block:
    alone = "" if found.enough else " (too few cells to judge)"
    numbers = f"kappa {points(found.kappa)}, alpha {points(found.alpha)}, AC2 {points(found.ac2)}"
    equal = f"{found.agreement:.0%}" if found.agreement is not None else "unknown"
    return Bullets([f"{found.one} and {found.two}: {equal} of {found.cells} cells equal{alone}; {numbers}"])


def answers(facts: Facts) -> Section:
    """Everything that was said, word for word."""
    if facts.sheet is None:
        return Section("Answers", [Paragraph("There is no sealed answer sheet.")])
    blocks: list[Block] = [Paragraph(_how(facts))]
    questions = list(dict.fromkeys((item.question_id, item.question) for item in facts.sheet.items))
    for question_id, question in questions:
        blocks.append(Paragraph(f"{question_id} {question}", strong=True))
        for item in facts.sheet.items:
            if (item.question_id, item.question) == (question_id, question):
                drawn = f", sample {item.sample} (seed {item.seed})" if item.sample else ""
                ended = {"end": "ended by itself", "cap": "cut at the cap"}.get(item.stop, "how it ended: not recorded")
                long = f", {count(item.tokens, 'token')}" if item.tokens is not None else ""
                blocks += [Paragraph(f"{item.voice}{drawn}: {ended}{long}"), Verbatim(item.answer, item.voice)]
    return Section("Answers", blocks)


def _how(facts: Facts) -> str:
    assert facts.sheet is not None
    header = facts.sheet.header
    known = {name: getattr(header.decoding, name) for name in header.decoding.__struct_fields__}
    told = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
    return f"Sheet {header.name}. Decoding: {told or 'not recorded'}."


def limits(facts: Facts) -> Section:
    """What this cannot say, computed from what there is."""
    return Section("Limits", [Bullets(list(_limits(facts)))])


def _limits(facts: Facts) -> Iterable[str]:
    cycle = facts.cycle
    if cycle is None:
        yield "Nothing was graded, so nothing here says whether the persona took."
    else:
        questions = len({each.question for each in cycle.answers})
        yield f"The score speaks of {count(questions, 'question')}; over others like them: {between(cycle.interval)}."
        if cycle.kind != "person":
            yield f"Graded by {rater(cycle)}: not by a person who is known not to know the cycle."
        elif cycle.blind is not True:
            yield f"Graded by {rater(cycle)}."
        if not cycle.anchors:
            yield "No calibration answers were mixed in: whether the rater grades as the rubric means is not known."
        if not cycle.repeated:
            yield "No answer was graded twice: how far the rater agrees with themselves is not known."
        if cycle.seen and cycle.seen.answers:
            known = share(cycle.seen.answers, len(cycle.answers))
            yield f"{known} answers are to questions that stand in the training rows: they show memory."
        elif cycle.seen is None:
            yield "Whether the questions stand in the training rows is not known."
        if not any(each.sample for each in cycle.answers):
            yield "One answer to each question: how much the answers vary is not known."
    for found in (facts.comparison, facts.base):
        if found and found.n:
            seen = f"a true difference under {points(found.mdd)} would mostly not be seen"
            yield f"{found.n} questions cannot give a p under {probability(found.smallest_p)}; {seen}."
            break
    yield "One training with one seed: another seed can give another score."
    yield from facts.missing


def sheet_command(facts: Facts) -> str:
    """The command that asks the same questions in the same way; empty where they were not asked here."""
    if facts.sheet is None or facts.imported:
        return ""
    header = facts.sheet.header
    parts = [f"molting answers {facts.run.id} --rubric {quote(header.rubric.name)}"]
    if header.decoding.samples:
        parts.append(f"--samples {header.decoding.samples} --temperature {header.decoding.temperature:g}")
    if header.decoding.seed:
        parts.append(f"--seed {header.decoding.seed}")
    if header.checkpoint is not None:
        parts.append(f"--checkpoint {header.checkpoint}")
    if "base" not in facts.sheet.voices:
        parts.append("--no-base")
    return " ".join(parts)
