"""The parts of a run in its report: rows, numbers, and what a person reads."""

from __future__ import annotations

from jobs.parts import timeline
from jobs.parts.timeline import Bar, Numbers, Timeline
from jobs.report import parts, picture
from jobs.store import Store


def made(workers: int = 3) -> Timeline:
    """Each worker has two parts; the last part of the first one is lost, and the last worker refuses one."""
    bars = []
    for index in range(workers):
        first = [(100.0 + 10 * step, 108.0 + 10 * step) for step in range(4)]
        bars.append(Bar(len(bars) + 1, f"host-{index + 1}", 95.0 + index, 140.0, "done", "", first))
        second = [(150.0 + 10 * step, 159.0 + 10 * step) for step in range(3)]
        bars.append(Bar(len(bars) + 1, f"host-{index + 1}", 145.0, 200.0, "done", "", second))
    bars[1] = Bar(2, "host-1", 145.0, 200.0, "lost", "its process ended with exit code -9", [(150.0, 159.0)])
    bars.append(Bar(len(bars) + 1, f"host-{workers}", 202.0, 202.5, "refused", "other versions"))
    return Timeline(bars, {99: "taken by a worker and not begun within 120 s"})


def test_the_numbers_count_parts_workers_and_losses():
    shards = {"host-1": 5, "host-2": 7, "host-3": 7}
    assert made().numbers() == Numbers(number=8, workers=3, lost=2, refused=1, shards=shards)
    assert parts.sentence(made().numbers()) == "8 parts on 3 workers, 2 lost, 1 refused"
    assert parts.shares(made().numbers()) == "host-1: 5, host-2: 7, host-3: 7"


def test_the_picture_has_a_row_for_each_worker_and_marks_what_was_lost():
    (found,) = parts.pictures(made())
    drawn = picture.svg(found)
    assert [name for name in ("host-1", "host-2", "host-3") if f">{name}<" in drawn] == ["host-1", "host-2", "host-3"]
    assert ">lost or failed<" in drawn
    assert ">refused<" in drawn
    assert drawn.startswith('<svg role="img" aria-label="who did what when"')


def test_parts_that_a_worker_had_at_the_same_time_are_in_rows_of_their_own():
    both = Timeline([Bar(1, "host-1", 0.0, 10.0, "done"), Bar(2, "host-1", 5.0, 15.0, "done")])
    (found,) = parts.pictures(both)
    assert picture.svg(found).count(">host-1<") == 2


def test_of_many_workers_the_picture_shows_some_and_says_how_many_more_there_are():
    (found,) = parts.pictures(made(workers=40))
    drawn = picture.svg(found)
    assert ">host-24<" in drawn
    assert ">host-25<" not in drawn
    assert "16 more rows are not shown" in drawn
    assert found.height_in < 9


def test_a_timeline_is_read_as_it_was_written(tmp_path):
    store = Store(str(tmp_path))
    timeline.write(store, "run", made())
    assert timeline.read(store, "run").numbers() == made().numbers()
    assert timeline.read(store, "another") is None
