"""Runs are in order, and count their own rows only, although the clock was set back between them."""

import pyarrow.parquet as pq
import pytest

from jobs.plan import planning
from jobs.report import history
from jobs.store import Store
from tests import lake


def test_a_run_after_the_clock_was_set_back_counts_its_own_rows(tmp_path, models, monkeypatch):
    content = lake.job(lake.make_lake(tmp_path / "in", files=1, n=20), tmp_path / "out", models)
    with monkeypatch.context() as patched:
        patched.setattr(planning, "new_run_id", lambda: "20991128T163518999999-aaaaaa")
        assert lake.execute(content).rows_in == 20
    pq.write_table(lake.rows(7, start=9000), tmp_path / "in" / "new.parquet")
    second = lake.execute(content)
    assert second.rows_in == 7
    assert second.run_id.startswith("20991128T163519000000-")
    assert history.run_ids(Store(str(tmp_path / "out")))[-1] == second.run_id
    assert lake.execute(content).rows_in == 0


@pytest.mark.parametrize(
    ("run_id", "newest", "found"),
    [
        ("20261128T170000000000-bb", "", "20261128T170000000000-bb"),
        ("20261128T170000000000-bb", "20261128T165959999999-ff", "20261128T170000000000-bb"),
        ("20261128T170000000000-bb", "20261128T180000000000-aa", "20261128T180000000001-bb"),
        ("20261128T170000000000-bb", "20261128T170000000000-bb", "20261128T170000000000-bb"),
        ("20261128T170000000000-bb", "some-other-id", "20261128T170000000000-bb"),
    ],
)
def test_an_id_is_later_than_the_newest_one(run_id, newest, found):
    assert planning.after(run_id, newest) == found
