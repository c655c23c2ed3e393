"""What people are asked about the rows of a draw: the task, the labels of its model, and whether several may fit.

A draw keeps it in the footer of its Parquet file, because the model of a later run may know other labels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.evaluation import rows as labelled
from transforms import heads
from transforms.spans import Scheme

if TYPE_CHECKING:
    from jobs.plan.task import TaskPlan

FOOTER = b"nightscribe.question"


@dataclass(frozen=True)
class Question:
    """The question of a draw.

    Attributes:
        task: classify, ner, summarize, translate or generate.
        labels: the labels that the model knows (of entities: without B- and I-), in its order; empty for texts, and
            where they are not known.
        several: whether a text may have several labels; classify only.
    """

    task: str
    labels: tuple[str, ...] = ()
    several: bool = False

    @property
    def truth(self) -> str:
        """The column of the truth, which is also the name of the question in a label tool."""
        return labelled.truth_column(self.task)


def of(task: TaskPlan) -> Question:
    """The question about the results of a task; reads the model's config.json, or the adapter's labels.

    Raises:
        UserError: the model or the adapter does not fit the task.
    """
    from jobs.plan import task_plans

    name = task.spec.task
    if name not in ("classify", "ner"):
        return Question(name)
    configs = task_plans.configurations(task)
    config = configs[0]
    # Adapters by row may have labels of their own.
    names = list(dict.fromkeys(label for each in configs for label in heads.labels(each)))
    if name == "ner":
        names = [kind for kind in dict.fromkeys(Scheme(names).names) if kind != "O"]
    return Question(name, tuple(names), getattr(config, "problem_type", None) == "multi_label_classification")


def with_question(rows: pa.Table, question: Question) -> pa.Table:
    """The rows of a draw with the question in the metadata of their schema."""
    metadata = dict(rows.schema.metadata or {}) | {FOOTER: json.dumps(asdict(question)).encode()}
    return rows.replace_schema_metadata(metadata)


def read(rows: pa.Table) -> Question:
    """The question of a draw with at least one row.

    Without one in the metadata, the labels are those of the predictions, and a column with lists of labels means that
    several fit.
    """
    if (kept := (rows.schema.metadata or {}).get(FOOTER)) is not None:
        found = json.loads(kept)
        return Question(found["task"], tuple(found["labels"]), found["several"])
    task, into = rows["review_task"][0].as_py(), rows["review_into"][0].as_py()
    if task not in ("classify", "ner"):
        return Question(task)
    values = rows[into].to_pylist()
    said = [entry for value in values for entry in (value if isinstance(value, list) else [value]) if entry]
    several = task == "classify" and pa.types.is_list(rows.schema.field(into).type)
    return Question(task, tuple(sorted({entry["label"] for entry in said})), several)
