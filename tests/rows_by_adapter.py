"""What tests of adapters by row share: mixed batches compared with one run for each adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from transforms import registry
from transforms.by_row.annotator import RowAnnotator
from transforms.model import load
from transforms.reference import ModelRef

NAMES = ["acme", "globex", "base", "initech"]
# Attention everywhere, a smaller rank with the scaling of rsLoRA, and all linear layers of the encoder.
SHAPES: list[dict[str, Any]] = [
    {},
    {"r": 2, "use_rslora": True, "lora_alpha": 16},
    {"target_modules": ["query", "key", "dense"], "rank_pattern": {"key": 3}},
]

Values = list[Any]


def who(rows: int) -> list[str]:
    """The name of the adapter of each row."""
    return [NAMES[(7 * i) % 4] for i in range(rows)]


def by_row(task: str, ref: ModelRef, options: Any, batch: pa.RecordBatch) -> tuple[RowAnnotator, Values]:
    """What a task gives with an adapter for each row; `who` names it."""
    module = registry.get(task)
    assert module.ARCHITECTURE is not None
    keys = {name: i for i, name in enumerate(NAMES)}
    annotator = RowAnnotator(module, options, load(ref, module.ARCHITECTURE), None, "who", keys)
    annotation = annotator(batch)
    assert list(annotation.failures) == []
    return annotator, annotation.values.to_pylist()


def one_run_each(task: str, ref: ModelRef, options: Any, batch: pa.RecordBatch) -> tuple[Values, list[Values]]:
    """What a run for each adapter gives: for each row with its own adapter; for all rows, by adapter."""
    module = registry.get(task)
    assert module.ARCHITECTURE is not None
    every = []
    for folder in ref.adapters:
        model = load(replace(ref, adapter=folder, adapters=()), module.ARCHITECTURE)
        every.append(module.load(options, model)(batch).values.to_pylist())
    return [every[NAMES.index(name)][row] for row, name in enumerate(batch.column("who").to_pylist())], every


def same(got: Any, want: Any, tolerance: float = 2e-4) -> bool:
    """Whether two values are equal, numbers except for rounding."""
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(same(got[key], want[key], tolerance) for key in want)
    if isinstance(want, list):
        return len(got) == len(want) and all(same(*pair, tolerance) for pair in zip(got, want, strict=True))
    if isinstance(want, float):
        return abs(got - want) <= tolerance * max(1.0, abs(want))
    return bool(got == want)


def check(task: str, base: Path, adapters: list[Path], options: Any, batch: pa.RecordBatch, **ref: Any) -> RowAnnotator:
    """Mixed batches give what one run an adapter gives, and the adapters give different values."""
    folders = [str(folder) for folder in adapters]
    reference = ModelRef(str(base), device="cpu", adapters=(*folders[:2], None, folders[2]), **ref)
    annotator, got = by_row(task, reference, options, batch)
    want, every = one_run_each(task, reference, options, batch)
    different = [row for row in range(len(got)) if not same(got[row], want[row])]
    assert different == [], f"row {different[0]}: {got[different[0]]} and not {want[different[0]]}"
    # An adapter that is not applied, or that of another row, would be noticed.
    for one in range(4):
        for other in range(one):
            alike = sum(same(*pair) for pair in zip(every[one], every[other], strict=True))
            assert alike < 0.7 * len(got), (one, other, alike)
    return annotator
