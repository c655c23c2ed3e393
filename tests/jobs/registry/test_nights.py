"""Nights of real jobs with `adapter: REGISTRY@champion`: promotions, rollbacks, and what is refused."""

import json
import shutil
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from jobs import run, spec
from jobs.plan import planning
from jobs.registry import Registry, used
from tests import lake
from tests.jobs.registry import versions
from transforms.digest import digest
from transforms.errors import ModelError, SpecError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["disk", "memory", "hub"])
def registry(request, tmp_path, monkeypatch):
    if request.param == "hub":
        monkeypatch.setenv("HF_TOKEN", request.getfixturevalue("hub").token("ada"))
        return Registry(f"hf://org/{uuid.uuid4().hex}")
    return Registry(str(tmp_path / "registry") if request.param == "disk" else f"memory://{tmp_path.name}")


@pytest.fixture
def base(models):
    return models / "sentiment"


@pytest.fixture
def job(tmp_path, models):
    """A job that names the champion; the lake has two files of 40 rows."""
    source = lake.make_lake(tmp_path / "in", files=2, n=40)

    def job(registry, reference="champion", sink="out", **task):
        content = lake.job(source, tmp_path / sink, models)
        content["tasks"][0] |= {"adapter": f"{registry.url}@{reference}"} | task
        return content

    return job


def test_a_promotion_computes_all_rows_again_and_a_rollback_gives_equal_bytes(registry, base, job, tmp_path):
    one, two = (versions.add(registry, base, tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    assert lake.execute(job(registry)).rows_in == 80
    first = lake.contents(tmp_path / "out")
    labels = {row["label"] for row in lake.read(tmp_path / "out")["sentiment"].to_pylist() if row}
    assert labels <= set(versions.LABELS)
    assert lake.execute(job(registry)).rows_in == 0

    registry.promote(two, "gate", "better")
    assert lake.execute(job(registry)).rows_in == 80
    second = lake.contents(tmp_path / "out")
    assert second != first

    registry.rollback("ada", "worse on invoices")
    assert lake.execute(job(registry)).rows_in == 80
    assert lake.contents(tmp_path / "out") == first


def test_a_promotion_in_the_middle_of_a_run_changes_nothing_in_that_run(registry, base, job, tmp_path):
    one, two = (versions.add(registry, base, tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    lake.execute(job(registry, one, sink="expected"))
    with run.holding(run.prepare(spec.parse(job(registry)))) as held:
        registry.promote(two, "gate", "better")
        run.execute(held)
        run.finish(held)
    assert lake.read(tmp_path / "out").equals(lake.read(tmp_path / "expected"))
    metadata = pq.read_schema(lake.parts(tmp_path / "out")[0]).metadata[b"nightscribe.tasks.0"].decode()
    assert f"@{one}@" in metadata
    assert two not in metadata


def test_the_same_version_by_its_name_or_as_the_champion_is_the_same_work(registry, base, job, tmp_path):
    one = versions.add(registry, base, tmp_path, 1)
    registry.promote(one, "gate", "first")
    lake.execute(job(registry))
    assert lake.execute(job(registry, one)).rows_in == 0
    assert lake.execute(job(registry, one[:6])).rows_in == 0


def test_with_on_model_change_keep_a_promotion_computes_nothing_again(registry, base, job, tmp_path):
    one, two = (versions.add(registry, base, tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    content = job(registry)
    content["sink"]["on_model_change"] = "keep"
    lake.execute(content)
    registry.promote(two, "gate", "better")
    assert lake.execute(content).rows_in == 0


def test_a_whole_model_is_used_as_a_model(registry, base, job, tmp_path):
    folder = shutil.copytree(base, tmp_path / "full")
    whole = registry.add(folder, versions.about(kind="model", method="full")).version
    registry.promote(whole, "gate", "first")
    content = job(registry, model=f"{registry.url}@champion")
    del content["tasks"][0]["adapter"]
    lake.execute(content)
    plain = job(registry, sink="plain")
    del plain["tasks"][0]["adapter"]
    lake.execute(plain)
    assert lake.read(tmp_path / "out").equals(lake.read(tmp_path / "plain"))


def test_the_runs_that_used_a_version_are_found_with_the_rows_that_are_still_theirs(registry, base, job, tmp_path):
    one, two = (versions.add(registry, base, tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    first = lake.execute(job(registry)).run_id
    sink = used.open_sink(str(tmp_path / "out"))
    assert used.runs_with(sink, registry.version(one)) == [used.Use(first, 80)]
    # The parts name their weights even where the plan is gone.
    sink.delete(f"_nightscribe/plans/{first}.json")
    assert used.runs_with(sink, registry.version(one)) == [used.Use(first, 80)]
    registry.promote(two, "gate", "better")
    second = lake.execute(job(registry)).run_id
    assert used.runs_with(sink, registry.version(two)) == [used.Use(second, 80)]
    assert used.runs_with(sink, registry.version(one)) == []
    with pytest.raises(SpecError, match="is no sink: no job has written to it"):
        used.open_sink(str(tmp_path / "typo"))


def test_another_base_under_the_same_name_is_refused(tmp_path, base, job):
    registry = Registry(str(tmp_path / "registry"))
    folder = shutil.copytree(base, tmp_path / "base")
    one = versions.add(registry, folder, tmp_path, 1)
    content = job(registry, one, model=str(folder))
    assert len(planning.make(spec.parse(content)).todo) == 2
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "query.weight" in name)
    save_file(weights | {name: weights[name] + 1e-3}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"tasks.0: adapter .* was trained on other weights than those of '.*base'"):
        planning.make(spec.parse(content))
    assert not (tmp_path / "out").exists()


def test_a_copy_of_the_base_elsewhere_is_accepted(tmp_path, base, job):
    registry = Registry(str(tmp_path / "registry"))
    folder = shutil.copytree(base, tmp_path / "base")
    one = versions.add(registry, folder, tmp_path, 1)
    shutil.rmtree(folder)
    (copy := shutil.copytree(base, tmp_path / "copy")).joinpath("note.txt").write_text("another file")
    assert digest(copy) != digest(base)
    assert len(planning.make(spec.parse(job(registry, one, model=str(copy)))).todo) == 2


def test_what_a_version_is_not_for_is_refused_at_plan_time(registry, base, job, models, tmp_path):
    one = versions.add(registry, base, tmp_path, 1)
    registry.promote(one, "gate", "first")

    def refusal(**task):
        with pytest.raises(SpecError) as caught:
            planning.make(spec.parse(job(registry, **task)))
        return str(caught.value)

    said = refusal(model=f"{registry.url}@champion", adapter=None)
    assert f"is version {one}, which is an adapter; write it as adapter, beside `model: " in said
    said = refusal(task="ner", model=str(models / "ner"))
    assert "was trained for classify, and the task is ner; use the registry of a training file with `task: ner`" in said
    assert "has no revision 'v2'; leave it out" in refusal(adapter_revision="v2")
    assert "has no version 'zzz'; versions: " in refusal(adapter=f"{registry.url}@zzz")
    assert "is no registry: no version was ever added to it" in refusal(adapter=f"{tmp_path / 'typo'}@champion")
    if registry.store.local:
        assert f"is a registry; write {registry.url}@champion, or a version after the @" in refusal(
            adapter=registry.url
        )
    whole = registry.add(base, versions.about(kind="model", method="full")).version
    said = refusal(adapter=f"{registry.url}@{whole}")
    assert "which is a whole model; write it as model, without an adapter" in said
    assert not (tmp_path / "out").exists()


def test_a_damaged_version_is_named_when_the_run_is_planned(tmp_path, base, job):
    registry = Registry(str(tmp_path / "registry"))
    one = versions.add(registry, base, tmp_path, 1)
    registry.promote(one, "gate", "first")
    file = registry.folder(one) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"adapter_model.safetensors of version {one} in .* was changed after"):
        lake.execute(job(registry))


def test_a_plan_with_a_registry_can_be_saved_and_read(registry, base, job, tmp_path):
    one = versions.add(registry, base, tmp_path, 1)
    registry.promote(one, "gate", "first")
    plan = planning.make(spec.parse(job(registry)))
    again = type(plan).from_json(plan.to_json())
    assert again.tasks[0].adapter == plan.tasks[0].adapter
    assert json.loads(plan.to_json())["tasks"][0]["adapter"]["name"].endswith(f"@{one}")
    assert pa.schema(again.schema).equals(plan.schema)
