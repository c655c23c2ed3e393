"""A plan and a report say in words what the smaller model of a task does and did."""

from types import SimpleNamespace

from jobs.cascade import kept
from jobs.report import first
from jobs.report.first import FirstNumbers
from jobs.store import Store
from transforms.contract import Asked

MEASURED = {"threshold": 0.93125, "seed": "s", "rows": 2000, "answered": 1710, "agreed": 1704, "why": ""}


def task(measured):
    model = {"name": "org/small", "commit": "9a91c0ffee1234567890"}
    return {
        "spec": {"first": {"agree": 0.99, "confidence": 0.95}},
        "first": {"model": model, "measured": measured},
    }


def test_a_plan_names_the_model_its_threshold_the_promise_and_the_sample():
    assert first.planned(task(MEASURED)) == (
        "first org/small version 9a91c0ffee12 for rows with a confidence of 0.9313 or more, where both agree on at "
        "least 0.99 of the rows with 0.95 confidence (1,710 of 2,000 sampled rows, 1,704 alike)"
    )
    assert first.planned(task(None)).endswith("(its threshold is measured when the run starts)")
    assert first.planned(task(MEASURED | {"threshold": None, "why": "not used, because"})).endswith(
        "(not used, because)"
    )


def test_a_report_says_what_was_answered_and_checked_and_whether_it_was_stopped():
    found = {"rows": 8000, "answered": 6800, "checked": 70, "agreed": 69, "refuted": False}
    assert first.done(task(MEASURED), found) == (
        "answered 85.0% of 8,000 rows; 70 answers were checked, 98.57% of them agreed"
    )
    assert first.done(task(MEASURED), found | {"refuted": True}).endswith(
        "; stopped, because that is too few; the next run measures the threshold again"
    )
    assert first.done(task(MEASURED | {"threshold": None, "why": "not used, because"}), found) == "not used, because"
    assert first.done(task(MEASURED), found | {"rows": 0}) == "no rows were computed"


def test_the_numbers_of_all_entries_of_a_night_are_added_up(tmp_path):
    store = Store(str(tmp_path))
    measured = kept.Measured(0.9, "seed")
    planned = SimpleNamespace(spec=SimpleNamespace(into="mood"), first=SimpleNamespace(measured=measured))
    without = SimpleNamespace(spec=SimpleNamespace(into="other"), first=None)
    entries = [SimpleNamespace(asked={"mood": Asked(10, 8, 2, 1)}), SimpleNamespace(asked={})]
    entries.append(SimpleNamespace(asked={"mood": Asked(5, 5, 1, 1)}))
    plan = SimpleNamespace(tasks=[planned, without])
    assert first.numbers(plan, entries, store) == {"mood": FirstNumbers(15, 13, 3, 2, False)}
    kept.refute(store, "seed", kept.Refuted(3, 2))
    assert first.numbers(plan, entries, store) == {"mood": FirstNumbers(15, 13, 3, 2, True)}
