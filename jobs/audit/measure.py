"""What an audit measures: drift, rejected rows, empty results, and rows that the sink would lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jobs.audit.record import Measure
from jobs.report import drift
from jobs.report.findings import Findings
from jobs.report.shown import count
from jobs.sink.entry import Entry
from jobs.spec.audit import AuditSpec


def measures(
    spec: AuditSpec, new: Sequence[Entry], before: Iterable[Entry], after: Iterable[Entry], nights: Sequence[Findings]
) -> tuple[Measure, ...]:
    """Hold a night against every limit of a job.

    Args:
        spec: the limits.
        new: entries that would be published.
        before: the published entries as they are.
        after: the published entries as they would be.
        nights: findings of the last finished nights.
    """
    tonight = Findings.merge(Findings.from_json(entry.findings) for entry in new if entry.findings is not None)
    found: list[Measure] = []
    if spec.drift is not None:
        found += _drift(tonight, nights, spec.drift)
    if spec.rejected is not None:
        found.append(_rejected(new, spec.rejected))
    if spec.empty is not None:
        found += _empty(tonight, spec.empty)
    if spec.rows is not None:
        found.append(_rows(before, after, spec.rows))
    return tuple(found)


def _drift(tonight: Findings, nights: Sequence[Findings], limit: float) -> Iterator[Measure]:
    """Every distribution, the one with the largest change first; see `jobs.report.drift` for the measure."""
    if not nights:
        yield Measure("drift", "there is no earlier night to compare with", None, limit)
    runs = "the last night" if len(nights) == 1 else f"the last {len(nights)} nights"
    for each in drift.compare(tonight, nights, limit):
        text = f"{each.what} moved by {each.psi:.3g} (population stability index) from {runs}"
        yield Measure("drift", text, each.psi, each.threshold)


def _rejected(new: Sequence[Entry], limit: float) -> Measure:
    rejected, total = sum(entry.rows_rejected for entry in new), sum(entry.rows_in for entry in new)
    text = f"{rejected:,} of {count(total, 'new row')} were rejected"
    return Measure("rejected", text, _fraction(rejected, total), limit)


def _empty(tonight: Findings, limit: float) -> Iterator[Measure]:
    for name, inputs in tonight.inputs.items():
        empty = tonight.empty.get(name, 0)
        text = f"{name} is empty in {empty:,} of {count(inputs, 'new row')} with an input"
        yield Measure("empty", text, _fraction(empty, inputs), limit)


def _rows(before: Iterable[Entry], after: Iterable[Entry], limit: float) -> Measure:
    old, new = sum(entry.rows_out for entry in before), sum(entry.rows_out for entry in after)
    if not old:
        return Measure("rows", "the sink has no rows yet", None, limit)
    text = f"the sink would have {count(new, 'row')} instead of {old:,}"
    return Measure("rows", text, _fraction(max(0, old - new), old), limit)


def _fraction(part: int, total: int) -> float:
    return round(part / total, 6) if total else 0.0
