"""The demo's lake: invented customer reviews in seven languages as Parquet, with their true labels in another file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from flows.demo.grammar import SENTIMENTS, Review, write_review
from flows.demo.words import LINES

REVIEWS = pa.schema(
    [
        ("id", pa.string()),
        ("product", pa.string()),
        ("stars", pa.int8()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("text", pa.string()),
    ]
)
GOLD = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("sentiment", pa.string()),
        ("entities", pa.list_(pa.struct([("label", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))),
    ]
)
GOLD_FILE = "gold/reviews.parquet"

# The languages of twenty consecutive rows, so that the smallest lake has every language.
LANGUAGES = ("en",) * 6 + ("de", "fr", "es", "it") * 3 + ("ar", "he")
FILES = {"en": 3, "de": 2, "fr": 2}
ROWS_PER_GROUP = 256

MIN_ROWS = 100
HELDOUT = 0.3
WRONG_LABELS = 0.04
START_US = 1_767_225_600_000_000  # 2026-01-01 UTC
SPAN_S = 300 * 24 * 3600
STARS = {"negative": (1, 1, 2, 2, 3), "neutral": (2, 3, 3, 3, 4), "positive": (3, 4, 5, 5, 5), None: (1, 3, 5)}


@dataclass(frozen=True)
class _Row:
    id: str
    language: str
    product: str
    stars: int | None
    created_us: int
    split: str
    review: Review
    label: str | None


def write_lake(folder: Path, rows: int = 6000, seed: int = 7) -> None:
    """Write the lake; the same arguments and the same version of pyarrow give the same bytes.

    `reviews/lang=XX/part-NNNN.parquet`, several files for the larger languages and several row groups in the largest:
    `id` (string), `product` (string: its category), `stars` (int8, some null), `created_at` (timestamp[us, UTC]) and
    `text` (string). Among the texts are null, empty, blank and emoji-only ones, right-to-left scripts, combining marks
    and a few of 50,000 characters; their lengths are log-normal with a median of about 25 words.

    `gold/reviews.parquet`, written last: `id` (string), `split` (string: train or heldout), `sentiment` (string:
    negative, neutral or positive) and `entities` (list<struct<label: string, start: int32, end: int32>>: PERSON, CITY
    and PRODUCT, offsets in code points); the latter two are null where the text is null, empty or blank. About 4 % of
    the training sentiments are wrong, as in real data; the held-out ones are right. Some names occur in held-out rows
    only, and no text occurs twice.

    Args:
        folder: folder to write to; files of an earlier lake there are replaced.
        rows: number of reviews, at least 100.
        seed: seed of all random numbers.

    Raises:
        ValueError: there are too few rows for every kind of text.
    """
    if rows < MIN_ROWS:
        raise ValueError(f"rows is {rows}; a lake with every kind of text needs at least {MIN_ROWS}")
    lake = _rows(rows, seed)
    languages: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in lake:
        languages[row.language].append(row)
    for language, all_of_it in languages.items():
        files = FILES.get(language, 1)
        for i in range(files):
            part = all_of_it[i * len(all_of_it) // files : (i + 1) * len(all_of_it) // files]
            _write(_reviews(part), folder / f"reviews/lang={language}/part-{i:04}.parquet")
    _write(_gold(lake), folder / GOLD_FILE)


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP)


def _rows(rows: int, seed: int) -> list[_Row]:
    kinds = _kinds(rows, seed)
    seen: set[str] = set()
    return [_row(i, kinds.get(i, ("plain", None)), seed, seen) for i in range(rows)]


def _kinds(rows: int, seed: int) -> dict[int, tuple[str, str]]:
    """The rows with special texts -> their kind and their split; every third of them is held out."""
    counts = {"null": rows // 150, "empty": rows // 300, "blank": rows // 300, "emoji": rows // 100}
    odd = [kind for kind, count in counts.items() for _ in range(max(3, count))]
    odd += ["combining"] * max(6, rows // 100) + ["huge"] * 5
    places = Random(f"{seed}/kinds").sample(range(rows), len(odd))
    return {
        place: (kind, "train" if i % 3 else "heldout") for i, (place, kind) in enumerate(zip(places, odd, strict=True))
    }


def _row(number: int, kind: tuple[str, str | None], seed: int, seen: set[str]) -> _Row:
    rng = Random(f"{seed}/{number}")
    language = LANGUAGES[number % len(LANGUAGES)]
    product = rng.choice(list(LINES))
    split = kind[1] or ("heldout" if rng.random() < HELDOUT else "train")
    review = write_review(kind[0], language, product, split == "heldout", rng)
    while review.sentiment and review.text in seen:
        review = write_review(kind[0], language, product, split == "heldout", rng)
    seen.add(review.text or "")
    label = review.sentiment
    if label and split == "train" and rng.random() < WRONG_LABELS:
        label = rng.choice([other for other in SENTIMENTS if other != label])
    return _Row(
        id=f"review-{number:07}",
        language=language,
        product=product,
        stars=rng.choice(STARS[review.sentiment]) if rng.random() < 0.93 else None,
        created_us=START_US + rng.randrange(SPAN_S) * 1_000_000,
        split=split,
        review=review,
        label=label,
    )


def _reviews(rows: list[_Row]) -> pa.Table:
    columns = (
        [row.id for row in rows],
        [row.product for row in rows],
        [row.stars for row in rows],
        [row.created_us for row in rows],
        [row.review.text for row in rows],
    )
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, REVIEWS, strict=True)], schema=REVIEWS
    )


def _gold(rows: list[_Row]) -> pa.Table:
    entities = [None if (e := row.review.entities) is None else [vars(entity) for entity in e] for row in rows]
    columns = ([row.id for row in rows], [row.split for row in rows], [row.label for row in rows], entities)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, GOLD, strict=True)], schema=GOLD)
