"""All answers about the rows of a draw: the latest of each person, and what they amount to.

They are kept in the review folder, so that an export of a second tool or person adds to those before, and a corrected
answer replaces the one that it corrects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from jobs.store import Store
from transforms.errors import SinkBusy

FOLDER = "_nightscribe/answers"


@dataclass(frozen=True)
class Given:
    """The latest answer of a person about a row.

    Attributes:
        value: the truth, in the form that training files read; None if it was skipped.
        at: when it was last changed, or imported if the tool does not say; ISO 8601, UTC.
    """

    value: Any
    at: str


# Key of a row -> who -> the answer. An answer of nobody in particular has the name "".
Answers = Mapping[str, Mapping[str, Given]]


class Undecided(Enum):
    """Why a row that was answered has no label."""

    SKIPPED = "skipped"
    TIE = "tie"


@dataclass(frozen=True)
class Kept:
    """The answers about a draw, as read from the review folder.

    Attributes:
        answers: the answers.
        version: of the file, to notice another import; None if there is no file.
    """

    answers: Answers
    version: str | None


def file(job: str, run: str) -> str:
    """The answers about the rows of a run, below the review folder."""
    return f"{FOLDER}/{job}/{run}.json"


def read(store: Store, job: str, run: str) -> Kept:
    """The answers about a draw so far.

    Raises:
        SinkError: the file cannot be read.
    """
    found = store.get_versioned(file(job, run))
    if found is None:
        return Kept({}, None)
    content = json.loads(found[0])
    return Kept({key: {by: Given(**one) for by, one in people.items()} for key, people in content.items()}, found[1])


def write(store: Store, job: str, run: str, before: Kept, answers: Answers) -> None:
    """Keep the answers about a draw, unless they changed since they were read.

    Raises:
        SinkBusy: they did, by another import.
        SinkError: the file cannot be written.
    """
    if answers == before.answers:
        return
    content = json.dumps(
        {key: {by: asdict(one) for by, one in people.items()} for key, people in answers.items()}, ensure_ascii=False
    ).encode()
    name = file(job, run)
    if before.version is None:
        written = store.put_if_absent(name, content)
    else:
        written = store.put_if_match(name, content, before.version)
    if not written:
        raise SinkBusy(f"labels of run {run} were imported by another process at the same time; run the command again")


def add(answers: Answers, new: Iterable[tuple[str, str, Given]]) -> Answers:
    """The answers with new ones: of two by one person about one row the later one, the new one if they are as late.

    Args:
        answers: the answers so far.
        new: (key of the row, who, answer).
    """
    merged = {key: dict(people) for key, people in answers.items()}
    for key, by, given in new:
        people = merged.setdefault(key, {})
        old = people.get(by)
        if old is None or (old.value != given.value and _time(given) >= _time(old)):
            people[by] = given
    return {key: dict(sorted(people.items())) for key, people in sorted(merged.items())}


def decide(people: Mapping[str, Given]) -> Any:
    """What the answers about a row amount to.

    The value that most people gave; people who skipped it do not count beside others. An answer of nobody in particular
    (a file without names) settles the row until somebody answers after it.

    Returns:
        The truth; or why there is none.
    """
    counting = list(people.values())
    if (settled := people.get("")) is not None:
        later = [given for by, given in people.items() if by and _time(given) > _time(settled)]
        counting = later or [settled]
    votes = Counter(json.dumps(given.value, sort_keys=True) for given in counting if given.value is not None)
    if not votes:
        return Undecided.SKIPPED
    (first, most), *others = votes.most_common(2)
    return Undecided.TIE if others and others[0][1] == most else json.loads(first)


def _time(given: Given) -> datetime:
    time = datetime.fromisoformat(given.at)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
