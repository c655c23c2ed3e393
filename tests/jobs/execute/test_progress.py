"""The totals of a run are the sum of what its workers wrote."""

import json

import pytest

from jobs.execute import progress
from jobs.execute.progress import Heartbeat, Progress
from jobs.store import Store


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"rows_in": "many"}', '{"tokens": [1]}'])
def test_a_damaged_file_of_a_worker_stops_no_run(tmp_path, content):
    store = Store(str(tmp_path))
    for rows in (3, 4):
        Heartbeat(store, "run").add(Progress(rows_in=rows, tokens=10 * rows))
    store.put(f"{progress.folder('run')}/another.json", content.encode())
    assert progress.read(store, "run") == Progress(rows_in=7, tokens=70)


def test_the_totals_are_those_of_all_workers(tmp_path):
    store = Store(str(tmp_path))
    for rows in (3, 4):
        heartbeat = Heartbeat(store, "run")
        heartbeat.add(Progress(rows_in=rows))
        heartbeat.add(Progress(rows_in=1, shards=1))
        heartbeat.write()
    (name, _) = store.names(progress.folder("run"))
    assert json.loads(store.get(name))["shards"] == 1
    assert progress.read(store, "run") == Progress(rows_in=9, shards=2)
