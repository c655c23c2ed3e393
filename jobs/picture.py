"""The picture of a run: rows a second over time, what the tasks found, how long the texts were."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.ledger import Ledger
from jobs.plan import Plan
from jobs.progress import Progress
from jobs.store import Store
from transforms import task as tasks

# Part files looked at: enough for a distribution, few enough for any lake.
MAX_PARTS = 50
MAX_LABELS = 8
BLUE, GREY = "#2b6cb0", "#718096"


def draw(plan: Plan, samples: Sequence[tuple[float, Progress]]) -> bytes:
    """A PNG, about 1,000 by 300 pixels.

    Args:
        plan: the run, finished.
        samples: seconds since the start and the totals by then.
    """
    matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    labels = {task.spec.into: Counter[str]() for task in plan.tasks}
    lengths: list[int] = []
    text = next((column for task in plan.tasks for column in tasks.columns_read(task.spec.options)), None)
    for table in _parts(plan):
        for name, counter in labels.items():
            counter.update(_labels(table[name]))
        if text in table.column_names:
            lengths += pc.utf8_length(table[text].cast(pa.string())).drop_null().to_pylist()
    found = {name: counter for name, counter in labels.items() if counter}
    figure = Figure(figsize=(3.4 * (2 + len(found)), 2.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 + len(found))
    _speed(axes[0], samples)
    for axis, (name, counter) in zip(axes[1:-1], found.items(), strict=True):
        _bars(axis, name, counter)
    _histogram(axes[-1], lengths)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _parts(plan: Plan) -> Iterator[pa.Table]:
    """The part files that this run wrote."""
    store = Store(plan.spec.sink.path)
    own = [entry for entry in Ledger(store).read().values() if entry.run_id == plan.run_id]
    for entry in own[:MAX_PARTS]:
        with store.fs.open(store.path(entry.part), "rb") as stream:
            yield pq.read_table(stream)


def _labels(column: pa.ChunkedArray) -> Iterator[str]:
    """Every label in a struct<label, ...> column or a list of such."""
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    if pa.types.is_struct(column.type) and column.type.get_field_index("label") >= 0:
        yield from pc.struct_field(column, "label").drop_null().to_pylist()


def _speed(axis: Axes, samples: Sequence[tuple[float, Progress]]) -> None:
    axis.set_title("rows a second")
    axis.set_xlabel("seconds")
    if len(samples) > 1:
        seconds = np.array([0.0, *(at for at, _ in samples)])
        rows = np.array([0, *(progress.rows_in for _, progress in samples)])
        axis.step(seconds[1:], np.diff(rows) / np.maximum(np.diff(seconds), 1e-9), color=BLUE, where="pre")
    axis.set_ylim(bottom=0)


def _bars(axis: Axes, name: str, counter: Counter[str]) -> None:
    names, counts = zip(*reversed(counter.most_common(MAX_LABELS)), strict=True)
    axis.set_title(name)
    axis.barh(names, counts, color=BLUE)


def _histogram(axis: Axes, lengths: list[int]) -> None:
    axis.set_title("text length")
    axis.set_xlabel("characters")
    if lengths:
        longest = max(2, max(lengths))
        axis.hist(np.maximum(lengths, 1), bins=np.geomspace(1, longest, 30).tolist(), color=GREY)
        axis.set_xscale("log")
