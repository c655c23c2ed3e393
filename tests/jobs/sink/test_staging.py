"""Staged entries: each is kept once it is written, by whichever process, and the newest line about a shard counts."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.plan.fingerprint import Fingerprint
from jobs.sink import staging
from jobs.sink.entry import Entry
from jobs.sink.ledger import Ledger
from jobs.store import Store, names
from tests import s3


def entry(slot, n=0, lease=1):
    part = f"{slot}.parquet"
    return Entry(slot, f"shard-{slot}", f"{slot}.csv", f"v{n}", 0, 1, None, Fingerprint("c", "r", (("a", "b"),)),
                 1, 1, 0, part, None, n, n, f"run-{n}", "2026-01-01T00:00:00+00:00", lease=lease)  # fmt: skip


def ledger(store, lease=0):
    """As another process opens it."""
    staging._writer.cache_clear()
    staging._known.cache_clear()
    found = Ledger(store, names.STAGED_LEDGER, names.STAGED_FILES)
    if lease:
        found.claim(lease)
    return found


def tokens(found):
    return {slot: each.tokens for slot, each in found.read(look=False).items()}


def stage_until_killed(folder, number, said):
    found = Ledger(Store(folder), names.STAGED_LEDGER, names.STAGED_FILES)
    for i in range(1000):
        found.write(entry(f"{number}-{i}", i))
        said.put(f"{number}-{i}")


def test_entries_of_processes_that_are_killed_are_kept(tmp_path):
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    workers = [context.Process(target=stage_until_killed, args=(str(tmp_path), n, said)) for n in range(2)]
    for worker in workers:
        worker.start()
    seen = set()
    while min(sum(each.startswith(f"{n}-") for each in seen) for n in range(2)) < 20:
        seen.add(said.get(timeout=60))
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    store = Store(str(tmp_path))
    assert seen <= ledger(store).read(look=False).keys()
    assert len(store.names(names.STAGED_LEDGER)) == 2


steps = st.tuples(st.sampled_from(["put", "gone", "tidy"]), st.sampled_from("abc"), st.integers(1, 3))


@settings(max_examples=100)
@given(st.lists(steps, max_size=15))
def test_a_line_counts_before_those_that_its_writer_knew(tmp_path_factory, history):
    store = Store(str(tmp_path_factory.mktemp("staged")))
    want = {}
    for n, (what, slot, lease) in enumerate(history):
        found = ledger(store, lease)
        if what == "put":
            found.write(entry(slot, n, lease))
            want[slot] = n
        elif what == "gone":
            found.forget(slot)
            want.pop(slot, None)
        else:
            found.keep_only(found.read(look=False))
            assert len(store.names(names.STAGED_LEDGER)) == (1 if want else 0)
        assert tokens(ledger(store)) == want
        assert {s: e.tokens for s in "abc" if (e := found._kept.get(s)) is not None} == want


def test_of_writers_that_did_not_know_of_each_other_the_newer_lease_counts(tmp_path):
    store = Store(str(tmp_path))
    old, new = (staging._Writer(names.STAGED_LEDGER) for _ in range(2))
    for writer, lease in ((new, 6), (old, 5)):
        writer.write(store, [staging._Line("a", lease, 1, entry("a", lease, lease))])
    assert tokens(ledger(store)) == {"a": 6}


def test_a_torn_last_line_is_ignored_and_the_next_process_begins_a_file_of_its_own(tmp_path, caplog):
    store = Store(str(tmp_path))
    found = ledger(store)
    found.write(entry("a", 1))
    found.write(entry("b", 2))
    (file,) = (tmp_path / names.STAGED_LEDGER).iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert tokens(ledger(store)) == {"a": 1}
    assert "1 damaged lines are ignored" in caplog.text
    ledger(store).write(entry("b", 3))
    assert tokens(ledger(store)) == {"a": 1, "b": 3}


def test_a_writer_whose_disk_was_full_goes_on_in_another_file(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    found = ledger(store)
    found.write(entry("a", 1))
    append = Store.append

    def full(self, name, content):
        append(self, name, content[:30])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "append", full)
        with pytest.raises(OSError, match="No space"):
            found.write(entry("b", 2))
    found.write(entry("c", 3))
    assert tokens(ledger(store)) == {"a": 1, "c": 3}


def test_a_large_file_is_not_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "MAX_BYTES", 2000)
    store = Store(str(tmp_path))
    found = ledger(store)
    for i in range(20):
        found.write(entry(str(i), i))
    assert 2 < len(store.names(names.STAGED_LEDGER)) < 10
    assert len(tokens(found)) == 20


def test_entries_whose_staged_files_are_gone_are_not_done(tmp_path):
    store = Store(str(tmp_path))
    found = ledger(store)
    for slot in "ab":
        found.write(entry(slot))
    store.put(found.file("a.parquet", ""), b"")
    assert ledger(store).read().keys() == {"a"}
    found.tidy()
    assert ledger(store).read(look=False).keys() == {"a"}


def test_an_object_store_has_each_entry_once_it_is_written_in_few_objects(monkeypatch):
    monkeypatch.setattr(staging, "MAX_BYTES_REMOTE", 3000)
    with s3.server():
        store = Store(f"s3://lake/{uuid.uuid4().hex}")
        found = ledger(store)
        for i in range(12):
            found.write(entry(str(i), i))
            reader = Ledger(store, names.STAGED_LEDGER, names.STAGED_FILES)
            assert len(reader.read(look=False)) == i + 1
        assert len(store.names(names.STAGED_LEDGER)) < 5
        found.keep_only({"3": found.read(look=False)["3"]})
        found.write(entry("new", 7))
        assert tokens(ledger(store)) == {"3": 3, "new": 7}


def test_one_file_for_each_entry_of_an_earlier_version_is_read_and_becomes_one(tmp_path):
    for folder, files in ((names.LEDGER, ""), (names.STAGED_LEDGER, names.STAGED_FILES)):
        store = Store(str(tmp_path))
        for slot in "abc":
            store.put(f"{folder}/{slot}.json", json.dumps(entry(slot, 1).to_json()).encode())
        store.put(f"{folder}/torn.json", b'{"slot": "t')
        found = Ledger(store, folder, files)
        assert found.read(look=False).keys() == set("abc")
        found.claim(2)
        (name,) = store.names(folder)
        assert name.endswith(".jsonl")
        found.update([replace(entry("a", 2), run_id="later")], ["b"])
        assert tokens(Ledger(store, folder, files)) == {"a": 2, "c": 1}


def test_an_upgrade_that_was_killed_is_finished(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    for slot in "abc":
        store.put(f"{names.LEDGER}/{slot}.json", json.dumps(entry(slot, 1).to_json()).encode())
    delete, left = Store.delete, [1]

    def killed(self, name):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        delete(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            Ledger(store, names.LEDGER).claim(1)
    assert tokens(Ledger(store, names.LEDGER)) == dict.fromkeys("abc", 1)
    found = Ledger(store, names.LEDGER)
    found.claim(2)
    assert [name.rpartition(".")[2] for name in store.names(names.LEDGER)] == ["jsonl"]
    assert tokens(found) == dict.fromkeys("abc", 1)
