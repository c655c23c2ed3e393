"""The training loop on a small lake: a first adapter, a night, labels for it, a better adapter, the next night, undone.

The people who label are the demo itself: it knows the truth of the reviews that it has invented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import yaml

from flows.demo import shop as shops
from flows.demo.outcome import outcome
from flows.demo.shop import Shop
from jobs.registry import Registry
from jobs.review import columns, labels
from transforms.errors import RunError

REVIEWED = 300
BY = "the demo"


@dataclass(frozen=True)
class Circle:
    """What the loop gave.

    Attributes:
        first: the version that was trained on the few labels.
        second: the one that learnt from the labels of the first night.
        rows: rows of the first night.
        drawn: those of them that were drawn for labels.
        before: share of right labels in the first night, with the first version.
        after: the same of the second night, with the second version.
        same_bytes: whether the first night gave the same bytes again after the promotion was taken back.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    rows: int
    drawn: int
    before: float
    after: float
    same_bytes: bool


def close(folder: Path, base: Path, say: Callable[[str], None]) -> Circle | None:
    """Go once around the loop.

    Args:
        folder: for everything that it makes.
        base: the model that the adapters are trained over.
        say: called with a line about each step.

    Returns:
        None if the loop was closed in this folder before.

    Raises:
        RunError: a step did not give what it has to.
    """
    from flows.enrich import enrich
    from flows.retrain import retrain

    shop = shops.make(folder)
    registry = Registry(str(folder / "registry"))
    if len(registry.versions()) > 1:
        return None
    training, job = write_files(folder, shop, base)

    say(f"a new shop: training an adapter on {shops.SEED} labelled reviews in a slang that the model has never read")
    first = outcome(retrain, training)
    shop.open_week(1)
    say(f"night 1: {shops.ROWS} reviews, with the first adapter")
    night = outcome(enrich, job)
    before, kept = right(folder / "enriched", shop), contents(folder / "enriched")

    drawn = folder / "review" / columns.draw_file("shop", night["run_id"])
    say(f"labels: people correct the {night['rows_drawn']} rows that were drawn for them")
    answer(drawn, folder / "answers.parquet", shop)
    labels.take(str(folder / "review"), [str(folder / "answers.parquet")])
    say("retraining: a second adapter learns from the labels, and has to prove on held-out rows that it is better")
    second = outcome(retrain, training)

    shop.open_week(2)
    say(f"night 2: {shops.ROWS} more reviews, with the champion {second['version']}")
    outcome(enrich, job)
    after = right(folder / "enriched", shop, "w2-")
    if not second["approved"]:
        raise RunError(f"the second adapter was not promoted: {second['reason']}")
    same = _taken_back(registry, folder, job, kept, say)
    return Circle(first, second, night["rows_out"], night["rows_drawn"], before, after, same)


def write_files(folder: Path, shop: Shop, base: Path) -> tuple[Path, Path]:
    """Write the training file and the job file of the shop, for the user to read, change and run."""
    registry = str(folder / "registry")
    training = {
        "name": "shop-adapter",
        "task": "classify",
        "base": {"model": str(base)},
        "method": "lora",
        "data": {
            "train": {"path": str(shop.seed)},
            "review": str(folder / "review"),
            "holdout": {"fraction": 0.4},
        },
        "training": {"num_train_epochs": 20, "learning_rate": 3.0e-3, "per_device_train_batch_size": 16},
        # The words are new to the model, so their embeddings are trained too.
        "adapter": {
            "r": 8,
            "lora_alpha": 16,
            "target_modules": "all-linear",
            "modules_to_save": ["word_embeddings"],
        },
        "registry": registry,
        "gate": {"metric": "accuracy", "floor": 0.2},
    }
    task = {"task": "classify", "column": "text", "model": str(base), "into": "sentiment", "dtype": "float32"}
    job = {
        "name": "shop",
        "source": {"path": f"{shop.reviews}/*.parquet"},
        "tasks": [task | {"adapter": f"{registry}@champion"}],
        "sink": {"path": str(folder / "enriched")},
        "review": {"rows": REVIEWED, "path": str(folder / "review")},
    }
    files = folder / "training.yaml", folder / "job.yaml"
    for file, content in zip(files, (training, job), strict=True):
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    return files


def answer(drawn: Path, answers: Path, shop: Shop) -> None:
    """Label the drawn rows with the truth, in the simplest form that can be imported."""
    rows = pq.read_table(drawn, columns=[columns.KEY, "text"])
    truth = [shop.truth[text] for text in rows["text"].to_pylist()]
    pq.write_table(rows.append_column("label", [truth]), answers)


def right(enriched: Path, shop: Shop, prefix: str = "") -> float:
    """The share of rows with the true label, of all rows or of those whose id begins with a prefix."""
    rows = ds.dataset(enriched, format="parquet", ignore_prefixes=["_"]).to_table().to_pylist()
    found = [row["sentiment"]["label"] == shop.truth[row["text"]] for row in rows if row["id"].startswith(prefix)]
    return sum(found) / len(found)


def contents(enriched: Path) -> dict[str, bytes]:
    """The bytes of every file with enriched rows."""
    return {file.name: file.read_bytes() for file in sorted(enriched.glob("*.parquet"))}


def _taken_back(
    registry: Registry, folder: Path, job: Path, kept: dict[str, bytes], say: Callable[[str], None]
) -> bool:
    """Whether the files of the first night have the same bytes after a rollback; the better version comes back."""
    from flows.enrich import enrich

    say("rollback: the promotion is taken back, and everything is enriched again with the first adapter")
    back = registry.rollback(BY, "to show that the first night can be had again")
    outcome(enrich, job)
    again = contents(folder / "enriched")
    assert back.before is not None
    registry.promote(back.before, BY, "it is better, as the gate has shown")
    say(f"night 3: {back.before} is the champion again")
    outcome(enrich, job)
    return all(again[name] == content for name, content in kept.items())
