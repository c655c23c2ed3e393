"""One run holds a sink, on a local disk and on an object store; each holder has a higher number than the one before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from jobs.store import Store, fencing, lease
from jobs.store.hub import HubStore
from jobs.store.opening import open_store
from tests import proxy, s3
from tests.minio import PASSWORD, USER
from tests.proxy import Fault
from transforms.errors import SinkBusy, SinkError, SpecError


def test_a_second_run_is_refused_with_the_name_of_the_first(store):
    with (
        lease.hold(store),
        pytest.raises(SinkBusy, match=r"written by process \d+ on .* since"),
        lease.hold(open_store(store.url, "sink.path")),
    ):
        pass


def test_numbers_of_lease_holders_increase_and_are_never_reused(store):
    numbers = []
    for _ in range(3):
        with lease.hold(store) as held:
            held.check()
            numbers.append(held.number)
    assert numbers == [1, 2, 3]


HOLDER = """
import sys, time
from jobs.store import Store, lease
from jobs.store.opening import open_store
from transforms.errors import SinkBusy

ahead_s = float(sys.argv[2])
true_time = time.time
time.time = lambda: true_time() + ahead_s
Store.lease_s = 2.0
store = open_store(sys.argv[1], "sink.path")
store.put("staged", b"old")
with lease.hold(store) as held:
    print("held", flush=True)
    sys.stdin.readline()
    for change in (
        lambda: store.put("part", b"old"),
        lambda: store.put_if_absent("commit.json", b"old"),
        lambda: store.move("staged", "part"),
        lambda: store.delete("part"),
        held.check,
    ):
        try:
            change()
            print("done", flush=True)
        except SinkBusy as error:
            print(error, flush=True)
"""


@pytest.fixture
def holder(minio_bucket, tmp_path):
    """A process that holds a lease of two seconds on another machine; its clock may be ahead of the true time."""
    processes = []

    def start(ahead_s=0.0):
        environment = os.environ | {
            "XDG_CACHE_HOME": str(tmp_path / "another"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        words = [sys.executable, "-c", HOLDER, f"{minio_bucket}/out", str(ahead_s)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=os.environ | environment)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(Store, "lease_s", 2.0)


def taken(store, within_s=20.0):
    """Hold a store as soon as its lease is over; how long that took."""
    started = time.monotonic()
    while True:
        try:
            with lease.hold(store) as held:
                store.put("part", b"new")
                return held.number, time.monotonic() - started
        except SinkBusy:
            assert time.monotonic() - started < within_s
            time.sleep(0.1)


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0], ids=["behind", "ahead"])
def test_a_holder_whose_clock_is_wrong_keeps_its_lease_and_loses_it_when_it_ends(holder, minio_bucket, short, ahead_s):
    process, store = holder(ahead_s), Store(f"{minio_bucket}/out")
    until = time.monotonic() + 2 * store.lease_s
    while time.monotonic() < until:
        with pytest.raises(SinkBusy, match="is being written by process"), lease.hold(store):
            pass
        time.sleep(0.3)
    process.kill()
    number, waited_s = taken(store)
    assert number == 2
    assert waited_s < 10


def test_a_holder_that_slept_past_its_lease_can_change_nothing(holder, minio_bucket, short):
    process, store = holder(), Store(f"{minio_bucket}/out")
    process.send_signal(signal.SIGSTOP)
    assert taken(store)[0] == 2
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate("go on\n", timeout=60)
    assert len(said.splitlines()) == 5
    assert all("was taken over by another run" in line for line in said.splitlines())
    assert store.get("part") == b"new"
    assert store.get("staged") == b"old"
    assert not store.exists("commit.json")
    assert taken(store)[0] == 3


def test_a_holder_that_slept_and_lost_nothing_goes_on(holder, minio_bucket):
    process = holder()
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate("go on\n", timeout=60)
    assert said.splitlines() == ["done"] * 5


def test_of_two_that_find_a_lease_over_one_takes_it(minio_bucket, short, monkeypatch, tmp_path):
    """Both have judged the old lease; only one can change its file."""
    store, other = Store(f"{minio_bucket}/out"), Store(f"{minio_bucket}/out")
    name = "_nightscribe/leases/00000001.json"
    held_before = {"number": 1, "until": 1.0, "lasts_s": 0.0, "host": "gone", "pid": 1, "since": "then"}
    store.put(name, json.dumps(held_before).encode())
    time.sleep(1.1)
    look = Store.age_s

    def overtaken(self, name):
        found = look(self, name)
        with monkeypatch.context() as first:
            first.setattr(Store, "age_s", look)
            first.setenv("XDG_CACHE_HOME", str(tmp_path))
            with lease.hold(other) as held:
                assert held.number == 2
        return found

    monkeypatch.setattr(Store, "age_s", overtaken)
    with pytest.raises(SinkBusy), lease.hold(store):
        pass


def test_a_worker_of_an_older_lease_can_change_nothing(minio_bucket, short):
    store, worker = Store(f"{minio_bucket}/out"), Store(f"{minio_bucket}/out")
    with lease.hold(store) as held:
        fencing.follow(worker, held.number)
        worker.put("part", b"first")
    with lease.hold(store):
        time.sleep(store.lease_s / 4)
        with pytest.raises(SinkBusy, match="taken over"):
            worker.put("part", b"second")
    assert store.get("part") == b"first"


def test_a_request_is_not_sent_again_after_the_lease_is_over(minio, minio_bucket):
    with proxy.running(minio.address) as between, s3.pointed_to(between.address, USER, PASSWORD):
        store = Store(f"{minio_bucket}/out")
        between.faults = [Fault(status=503, times=1)]

        class Over:
            def secure(self):
                pass

            def is_trusted(self):
                return False

        store.fence = Over()
        with pytest.raises(SinkError, match="cannot be reached"):
            store.put("part", b"1")
        assert between.count("PUT") == 1


def test_a_store_that_ignores_conditional_writes_is_refused(monkeypatch):
    store = Store(f"memory://{uuid.uuid4().hex}")
    monkeypatch.setattr(Store, "put_if_absent", lambda self, name, content: self.put(name, content) or True)
    with pytest.raises(SinkError, match="If-None-Match"), lease.hold(store):
        pass


def test_a_store_without_conditional_writes_is_refused_before_anything_is_written():
    with pytest.raises(SpecError, match="conditional writes"), lease.hold(Store("https://example.org/lake")):
        pass


@pytest.mark.parametrize("content", ["", "null", "[1]"])
def test_a_damaged_file_about_the_last_holder_does_not_stop_a_run(tmp_path, content):
    store = Store(str(tmp_path))
    with lease.hold(store):
        pass
    (tmp_path / lease.HOLDER).write_text(content)
    with lease.hold(store) as held:
        assert held.number == 1


KILLED = """
import os, signal, sys
from jobs.store import lease
from jobs.store.hub import HubStore
from jobs.store.opening import open_store
with lease.hold(open_store(sys.argv[1], "registry")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("machine", ["this", "another"])
def test_the_lease_of_a_killed_process_is_taken_over_at_once_on_its_machine(hub, tmp_path, monkeypatch, machine):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    store = HubStore(f"hf://org/{uuid.uuid4().hex}")
    assert subprocess.run([sys.executable, "-c", KILLED, store.url], check=False).returncode == -signal.SIGKILL
    if machine == "another":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        with pytest.raises(SinkBusy, match="is being written by process"), lease.hold(store):
            pass
        return
    with lease.hold(store) as held:
        assert held.number == 2
