"""Models are loaded without their weights before a run, and not again on nights that only have new files."""

import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.plan import planning, task_plans
from tests import lake
from transforms import rehearsal
from transforms.errors import ModelError


@pytest.fixture
def rehearsed(monkeypatch):
    """The folders of the models that were loaded without weights."""
    folders, rehearse = [], rehearsal.rehearse

    def noted(ref, name, options):
        folders.append(ref.path)
        return rehearse(ref, name, options)

    monkeypatch.setattr(rehearsal, "rehearse", noted)
    return folders


def test_a_night_with_new_files_only_does_not_check_its_models_again(tmp_path, models, rehearsed):
    source = lake.make_lake(tmp_path / "in", files=1)
    content = lake.job(source, tmp_path / "out", models)
    lake.execute(content)
    assert rehearsed == [str(models / "sentiment")]
    planning.make(spec.parse(content))
    pq.write_table(lake.rows(10, start=9000), source / "lang=de" / "new.parquet")
    assert len(planning.make(spec.parse(content)).todo) == 1
    assert len(rehearsed) == 1
    content["tasks"][0]["top_k"] = 2
    planning.make(spec.parse(content))
    assert len(rehearsed) == 2, "another option is another task"


def test_each_task_is_named_by_its_number(tmp_path, models):
    content = lake.job(lake.make_lake(tmp_path / "in", files=1), tmp_path / "out", models)
    content["tasks"].append(content["tasks"][0] | {"into": "second", "top_k": 9})
    with pytest.raises(Exception, match=r"^tasks.1: top_k is 9, and the model has 3 labels") as caught:
        planning.make(spec.parse(content))
    assert not isinstance(caught.value, ModelError), "it is the job file that is wrong"


def test_another_version_of_transformers_checks_the_models_again(tmp_path, models, rehearsed, monkeypatch):
    source = lake.make_lake(tmp_path / "in", files=1)
    content = lake.job(source, tmp_path / "out", models)
    lake.execute(content)
    pq.write_table(lake.rows(10, start=9000), source / "lang=de" / "new.parquet")
    monkeypatch.setattr(task_plans.importlib.metadata, "version", lambda name: "99.0")
    assert not planning.make(spec.parse(content)).tasks[0].was_loaded
    assert len(rehearsed) == 2


def test_a_model_that_no_shard_needed_yet_is_checked_with_the_first_new_file(tmp_path, models, rehearsed):
    source = lake.make_lake(tmp_path / "in", files=1)
    content = lake.job(source, tmp_path / "out", models)
    lake.execute(content)
    content["sink"]["on_model_change"] = "keep"
    content["tasks"][0]["long_text"] = "window"
    lake.execute(content)
    before = len(rehearsed)
    pq.write_table(lake.rows(10, start=9000), source / "lang=de" / "new.parquet")
    assert len(planning.make(spec.parse(content)).todo) == 1
    assert len(rehearsed) == before + 1
