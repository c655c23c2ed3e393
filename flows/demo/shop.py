"""The lake of a new shop, whose customers write in a slang that the demo's model has never read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from flows.demo.words import BRANDS, LINES

WORDS = {
    "positive": ("slaps", "is goated", "is bussin", "is lit", "is dope", "hits different", "is elite"),
    "neutral": ("is mid", "is meh", "is aight", "is basic", "is whatever", "does the job", "is so-so"),
    "negative": ("is wack", "is busted", "is janky", "is sus", "is cringe", "is borked", "is lame"),
}
SENTENCES = (
    "my {product} {verdict}, no cap",
    "ngl the {product} {verdict}",
    "{product} {verdict} fr fr",
    "two weeks in and the {product} {verdict}, tbh",
    "got the {product} for uni, it {verdict} imo",
    "{product}? {verdict}. that's the review",
    "the {product} {verdict} and shipping took {days} days",
    "everyone asks about my {product}, it {verdict}",
)
WEEKS, ROWS, SEED = 2, 600, 60


@dataclass(frozen=True)
class Shop:
    """The folders and files of the shop.

    Attributes:
        reviews: folder with one Parquet file a week: `id` and `text`, both string.
        seed: a few labelled reviews: `text` and `label`.
        truth: the true label of every text, which people know and the model does not.
    """

    reviews: Path
    seed: Path
    truth: dict[str, str]

    def open_week(self, week: int) -> None:
        """Let the reviews of a week arrive in the lake."""
        file = self.reviews / f"week-{week}.parquet"
        rows = reviews(ROWS, seed=week)
        self.reviews.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.select(["id", "text"]), file)


def make(folder: Path) -> Shop:
    """The shop before its first week: only the labelled reviews are there."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = reviews(SEED, seed=0)
    pq.write_table(seed.select(["text", "label"]), folder / "seed.parquet")
    weeks = pa.concat_tables([seed, *(reviews(ROWS, seed=week + 1) for week in range(WEEKS))])
    truth = dict(zip(weeks["text"].to_pylist(), weeks["label"].to_pylist(), strict=True))
    return Shop(folder / "reviews", folder / "seed.parquet", truth)


def reviews(rows: int, seed: int) -> pa.Table:
    """Reviews with their true labels: `id`, `text`, `label`, all string."""
    rng = Random(seed)
    names = [f"{brand} {line}" for brand in BRANDS.known for lines in LINES.values() for line in lines]
    labels = [rng.choice(tuple(WORDS)) for _ in range(rows)]
    texts = [
        rng.choice(SENTENCES).format(
            product=rng.choice(names), verdict=rng.choice(WORDS[label]), days=rng.randint(1, 30)
        )
        for label in labels
    ]
    return pa.table({"id": [f"w{seed}-{row:03}" for row in range(rows)], "text": texts, "label": labels})
