"""What is learned, judged on the very tensors that the trainer gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from engine.contract.calls import Finding
from engine.data.rows import IGNORED, EncodedRow
from engine.train.plan import epoch_order

from .case import Case, Example, change
from .words import numbers, several

CONSTANT = 0.2  # share of the learned tokens that may be the same in every row
MUCH_SYSTEM = 0.4  # share of all tokens
MUCH_PADDING = 0.5
FEW_LEARNED = 3  # tokens of an answer with its end


def nothing_to_learn(case: Case) -> Iterator[Finding]:
    if case.rows:
        return
    why = "; ".join(f"{count:,}: {reason}" for reason, count in case.funnel.dropped.items())
    room = _room(case)
    yield Finding(
        id="no-rows",
        severity="error",
        message=f"None of the {several(case.funnel.read, 'row')} can be learned from ({why}).",
        evidence=f"{case.funnel.read:,} read, 0 left",
        why="There is no answer token left: a trainer that went on would report loss 0.0 and learn nothing.",
        remedy=f"Set data.max_length = {room}." if room else "Look at the reasons above and mend the rows.",
        rows=_listed(case),
        fix=change("data.max_length", room) if room else [],
    )


def answers_cut_away(case: Case) -> Iterator[Finding]:
    """Rows of which the length limit leaves no answer."""
    lost = len(case.too_long)
    if not lost or not case.rows:
        return
    room, all_rows = _room(case), lost + len(case.rows)
    yield Finding(
        id="no-room-for-answers",
        severity="error" if lost > len(case.rows) else "warning",
        message=f"{lost:,} of {all_rows:,} rows ({lost / all_rows:.0%}) have no room for their answer in "
        f"data.max_length = {case.spec.data.max_length}.",
        evidence=f"{numbers([row for row, _ in case.too_long])}; the longest has {case.too_long[-1][1]:,} tokens"
        if lost == 1
        else f"{numbers([row for row, _ in case.too_long])}; they have up to {_longest(case):,} tokens",
        why="These rows are left out: cut to this length they would hold no answer token to learn.",
        remedy=f"Set data.max_length = {room}, or shorten the system prompt or the rows.",
        rows=[row for row, _ in case.too_long],
        fix=change("data.max_length", room),
    )


def rows_cut(case: Case) -> Iterator[Finding]:
    cut = [(example.number, row) for example, row in _pairs(case) if row.lost_tokens]
    if not cut:
        return
    most = max(len(row.input_ids) + row.lost_tokens for _, row in cut)
    yield Finding(
        id="rows-cut",
        severity="warning" if len(cut) > 0.02 * len(case.rows) else "note",
        message=f"{several(len(cut), 'row', 'are', of=len(case.rows))} longer than {case.spec.data.max_length} tokens "
        "and were cut.",
        evidence=f"{numbers([number for number, _ in cut])}; the longest has {most:,} tokens",
        why="The oldest turns, then the beginning of the question are lost; the answer is kept.",
        remedy=f"Set data.max_length = {_rounded(most)} if memory allows.",
        rows=[number for number, _ in cut],
        fix=change("data.max_length", _rounded(most)),
    )


def end_is_learned(case: Case) -> Iterator[Finding]:
    """The last token of every learned turn must be one that generation stops at."""
    stops = case.tokens.stop_ids
    silent = [example.number for example, row in _pairs(case) if any(last not in stops for last in _ends(row))]
    if silent:
        some = len(silent) < len(case.rows)
        yield Finding(
            id="end-not-learned",
            severity="error",
            message=f"In {len(silent):,} of {len(case.rows):,} rows the token that ends an answer is not learned.",
            evidence=numbers(silent) + ("; earlier answers of longer conversations" if some else ""),
            why="A model that never learned to stop runs on until the cap cuts it, whatever the cap.",
            remedy="Use a chat template that closes every assistant turn with the end token of this model"
            f"{_named(case)}.",
            rows=silent,
        )


def pad_is_end(case: Case) -> Iterator[Finding]:
    """The classic trap of other trainers; ours is told by the tensors."""
    names = case.tokens.names
    pad, end = names.get("pad_token", ""), names.get("eos_token", "")
    if not case.rows or not pad or pad not in (end, case.tokens.end):
        return
    stops = case.tokens.stop_ids
    learned = sum(all(last in stops for last in _ends(row)) for row in case.rows)
    yield Finding(
        id="pad-is-end",
        severity="note",
        message=f"The padding token is the end token ({pad}); here it does no harm.",
        evidence=f"{learned:,} of {len(case.rows):,} rows learn their end token",
        why="A collator that masks padding by its id would mask every end token with it: such a model never learns to "
        "stop and runs into the cap.",
        remedy="Nothing to do here. In other trainers choose another padding token.",
    )


def double_beginning(case: Case) -> Iterator[Finding]:
    bos = case.tokens.bos_id
    doubled = [
        example.number for example, row in _pairs(case) if bos is not None and list(row.input_ids[:2]) == [bos, bos]
    ]
    if doubled:
        name = case.tokens.names.get("bos_token", "the beginning token")
        yield Finding(
            id="double-bos",
            severity="warning",
            message=f"{several(len(doubled), 'row', 'begin')} with {name} twice.",
            evidence=numbers(doubled),
            why="The model never saw that in its own training and answers worse behind it.",
            remedy=f"Take {name} out of the chat template or of the rows: it is written once by itself.",
            rows=doubled,
        )


def little_to_learn(case: Case) -> Iterator[Finding]:
    short = [example.number for example, row in _pairs(case) if row.n_learned < FEW_LEARNED]
    if len(short) > 0.2 * len(case.rows):
        yield Finding(
            id="answers-of-one-word",
            severity="note",
            message=f"{several(len(short), 'row', 'teach', of=len(case.rows))} one token and the end.",
            evidence=numbers(short),
            why="A voice cannot be learned from answers of one word.",
            remedy="Write whole answers.",
            rows=short,
        )


def constant_is_learned(case: Case) -> Iterator[Finding]:
    """Plain text that begins with the same prompt in every row: most of the loss is that prompt."""
    learned = [[label for label in row.labels if label != IGNORED] for row in case.rows]
    if len(learned) < 4:
        return
    start, count = Counter(tuple(ids[:8]) for ids in learned).most_common(1)[0]
    same = [ids for ids in learned if tuple(ids[:8]) == start]
    length = _common(same) if count >= 0.5 * len(learned) else 0
    total = sum(map(len, learned))
    share = length * len(same) / max(1, total)
    if length >= 10 and share >= CONSTANT:
        yield Finding(
            id="constant-learned",
            severity="warning",
            message=f"{share:.0%} of the loss tokens are the same {length} tokens at the beginning of every row.",
            evidence=f"{len(same):,} of {len(learned):,} rows begin alike",
            why="The loss then falls because a constant is learned by heart, and cannot be compared with a run whose "
            "rows are built otherwise.",
            remedy='Give that text as data.system and the rows as {"prompt": …, "completion": …}: only answers are '
            "learned then.",
        )


def mostly_system(case: Case) -> Iterator[Finding]:
    if not case.rows or not case.chats:
        return
    roles: Counter[str] = Counter()
    for row in case.rows:
        for span in row.spans:
            roles[span.role] += span.end - span.start
    total = sum(roles.values())
    if roles["system"] >= MUCH_SYSTEM * max(1, total):
        share = roles["system"] / (roles["system"] + roles["user"] + roles["assistant"])
        yield Finding(
            id="mostly-system",
            severity="note",
            message=f"{roles['system'] / total:.0%} of all tokens are system prompt; they are read, not learned.",
            evidence=", ".join(f"{role} {roles[role] / total:.0%}" for role in ("system", "user", "assistant")),
            why=f"A trainer that learns all tokens would spend {share:.0%} of its loss on that constant text: its loss "
            "says little and must not be compared with this one, or with a run that has another prompt.",
            remedy="Compare answers, or losses of the answer tokens alone, as the held-out loss here.",
        )


def padding_wasted(case: Case) -> Iterator[Finding]:
    batch = case.spec.training.batch
    if case.packed or batch == 1 or len(case.rows) < 2:
        return
    lengths = [len(row.input_ids) for row in case.rows]
    order = epoch_order(len(lengths), 0, case.spec.training.seed)
    groups = [[lengths[i] for i in order[k : k + batch]] for k in range(0, len(order), batch)]
    share = 1 - sum(lengths) / sum(max(group) * len(group) for group in groups)
    if share >= MUCH_PADDING:
        rows = batch * case.spec.training.accumulation
        yield Finding(
            id="padding-waste",
            severity="warning",
            message=f"{share:.0%} of what a batch holds is padding.",
            evidence=f"batches of {batch}, rows of {min(lengths):,} to {max(lengths):,} tokens",
            why="Time and memory go into tokens that teach nothing.",
            remedy=f"Set training.batch = 1 and training.accumulation = {rows}: the same steps without padding.",
            fix=[*change("training.batch", 1), *change("training.accumulation", rows)],
        )


def _pairs(case: Case) -> Iterator[tuple[Example, EncodedRow]]:
    return zip(case.kept, case.rows, strict=True)


def _ends(row: EncodedRow) -> Iterator[int]:
    """The last learned token of every learned turn."""
    for span in row.spans:
        if span.learned:
            yield next((label for label in reversed(row.labels[span.start : span.end]) if label != IGNORED), IGNORED)


def _common(rows: Sequence[list[int]]) -> int:
    """Tokens that all rows begin with."""
    low, high = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def _listed(case: Case) -> list[int]:
    return sorted(number for numbered in case.dropped.values() for number in numbered)[:1000]


def _longest(case: Case) -> int:
    return max((tokens for _, tokens in case.too_long), default=0)


def _rounded(tokens: int) -> int:
    return -(-tokens // 64) * 64


def _room(case: Case) -> int:
    """The max_length in which all rows fit; 0 where length is not the trouble."""
    return _rounded(_longest(case)) if case.too_long else 0


def _named(case: Case) -> str:
    end = case.tokens.names.get("eos_token", "")
    return f" ({end})" if end else ""


CHECKS = (
    nothing_to_learn,
    answers_cut_away,
    end_is_learned,
    double_beginning,
    constant_is_learned,
    rows_cut,
    padding_wasted,
    little_to_learn,
    mostly_system,
    pad_is_end,
)
