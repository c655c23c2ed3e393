"""A log is a map whatever happens: changes, merges, crashes at each step, readers in between, two writers."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.store import Store
from jobs.store.log import Log, _known
from transforms.errors import SinkBusy, UnreadableSink

NUMBERS = itertools.count()

# A name among a few, and a change: a number is put, None is gone.
changes = st.dictionaries(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 9)), max_size=4)


class Crash(BaseException):
    """As final as SIGKILL: nothing in the product catches it."""


class Breaking(Store):
    """A store that does `left` changes; the next one is the last thing that happens, done in full or not at all."""

    left, done = 1 << 30, False

    def put_if_absent(self, name, content):
        return self._step(super().put_if_absent, name, content)

    def delete(self, name):
        return self._step(super().delete, name)

    def _step(self, change, *arguments):
        self.left -= 1
        if self.left >= 0:
            return change(*arguments)
        if self.done and self.left == -1:
            change(*arguments)
        raise Crash


def dumped(value):
    return orjson.dumps(value)


def log(store, lease=0):
    """A log that has nothing in memory, as in a new process."""
    _known.cache_clear()
    found = Log(store, "log", "id", dict, dumped)
    found.lease = lease
    return found


def memory():
    return Breaking(f"memory://log-{next(NUMBERS)}")


def with_ids(change):
    put = {key: {"id": key, "n": n} for key, n in change.items() if n is not None}
    return put, [key for key, n in change.items() if n is None]


@settings(max_examples=150)
@given(st.lists(st.tuples(changes, st.booleans(), st.integers(0, 6), st.booleans()), max_size=12))
def test_after_each_crash_a_reader_sees_the_map_before_or_after_the_change(history):
    store = memory()
    want = {}
    for change, merges, left, done in history:
        put, gone = with_ids(change)
        after = {key: value for key, value in want.items() if key not in gone} | put
        store.left, store.done = left, done
        try:
            log(store).update(put, gone)
            if merges:
                log(store).merge()
        except Crash:
            pass
        store.left = 1 << 30
        found = log(store).read()
        assert found in (want, after)
        want = found
    log(store).merge()
    assert log(store).read() == want
    assert {key: log(store).get(key) for key in "abcdef"} == {key: want.get(key) for key in "abcdef"}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_merge_killed_at_any_step_changes_nothing_for_readers(done):
    for left in range(20):
        store = memory()
        for change in ({"a": 1, "b": 2}, {"a": None, "c": 3}, {"c": None}, {"b": 4}):
            log(store).update(*with_ids(change))
        store.left, store.done = left, done
        try:
            log(store).merge()
        except Crash:
            finished = False
        else:
            finished = True
        store.left = 1 << 30
        assert log(store).read() == {"b": {"id": "b", "n": 4}}
        log(store).merge()
        assert log(store).read() == {"b": {"id": "b", "n": 4}}
        if finished:
            break
    assert left == 5


def test_a_reader_starts_again_if_a_merge_deletes_what_it_has_listed(monkeypatch):
    store, other = memory(), None
    for n in range(3):
        log(store).update(*with_ids({"a": n, f"b{n}": n}))
    get = Store.get

    def merging(self, name):
        nonlocal other
        if other is None:
            other = Log(Store(store.url), "log", "id", dict, dumped)
            other.merge()
        return get(self, name)

    reader = log(store)
    monkeypatch.setattr(Store, "get", merging)
    assert reader.read().keys() == {"a", "b0", "b1", "b2"}
    assert len(store.names("log")) == 1


def test_a_writer_that_has_lost_its_lease_is_refused():
    store = memory()
    first, second = log(store), log(store)
    first.claim(1)
    first.update(*with_ids({"a": 1}))
    second.claim(2)
    with pytest.raises(SinkBusy, match="lease 2, and this run has lease 1; run again"):
        first.update(*with_ids({"a": 5}))
    with pytest.raises(SinkBusy):
        first.merge()
    second.update(*with_ids({"b": 2}))
    assert second.read().keys() == {"a", "b"}


def test_of_two_writers_at_once_neither_replaces_the_file_of_the_other(monkeypatch):
    store = memory()
    put = Store.put_if_absent

    def racing(self, name, content):
        monkeypatch.setattr(Store, "put_if_absent", put)
        log(self).update(*with_ids({"b": 2}))
        return put(self, name, content)

    monkeypatch.setattr(Store, "put_if_absent", racing)
    log(store).update(*with_ids({"a": 1}))
    assert log(store).read().keys() == {"a", "b"}
    assert len(store.names("log")) == 2


def test_a_copied_log_takes_a_lease_that_begins_again():
    store = memory()
    log(store).claim(7)
    held = log(store)
    held.claim(1)
    held.update(*with_ids({"a": 1}))
    assert log(store).get("a") == {"id": "a", "n": 1}


def test_few_changes_among_many_do_not_rewrite_all_and_leave_few_files(tmp_path):
    store = Store(str(tmp_path))
    log(store).update(*with_ids({f"key-{i}": i for i in range(5000)}))
    (large,) = store.names("log")
    for night in range(60):
        log(store).update(*with_ids({f"key-{night}": -1, f"new-{night}": 1}))
        log(store).merge()
        assert len(store.names("log")) <= 8
    assert large in store.names("log")
    found = log(store).read()
    assert (len(found), found["key-59"]["n"], found["key-60"]["n"]) == (5060, -1, 60)


def test_what_a_damaged_file_still_has_counts(tmp_path, caplog):
    store = Store(str(tmp_path))
    log(store).update(*with_ids({"a": 1, "b": 2, "c": 3}))
    (file,) = (tmp_path / "log").iterdir()
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], lines[1], b'{"id": "b', b"\xff", b"[]", lines[3][:-2]]))
    assert log(store).read() == {"a": {"id": "a", "n": 1}}
    assert "4 damaged lines are ignored" in caplog.text
    log(store).update(*with_ids({"b": 5}))
    assert log(store).read().keys() == {"a", "b"}


def test_a_file_of_a_later_version_is_refused(tmp_path):
    store = Store(str(tmp_path))
    store.put("log/00000001.jsonl", b'{"format": 2, "lease": 1}\n')
    with pytest.raises(UnreadableSink, match="format 2, and this version of nightscribe reads format 1"):
        log(store).read()


def test_a_repeated_read_costs_one_listing(monkeypatch):
    store = memory()
    reader = log(store)
    for n in range(3):
        reader.update(*with_ids({"a": n}))
    monkeypatch.setattr(Store, "get", None)
    assert reader.read() == {"a": {"id": "a", "n": 2}}
