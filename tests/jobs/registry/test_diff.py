"""`nightscribe adapters diff`: two versions on the rows of a job, against what the job writes with each of them."""

import json

import pytest

from jobs import cli
from jobs.registry import Registry
from tests import lake
from tests.jobs.registry import versions

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("diff")


@pytest.fixture(scope="module")
def registry(folder):
    return Registry(str(folder / "registry"))


@pytest.fixture(scope="module")
def added(registry, folder, models):
    """Two versions; the first is the champion."""
    one, two = (versions.add(registry, models / "sentiment", folder, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    return one, two


@pytest.fixture(scope="module")
def job(folder, registry, models):
    """A job on a lake of 120 rows in three files, of which it reads two thirds."""
    content = lake.job(lake.make_lake(folder / "in", files=3, n=40), folder / "out", models)
    content["source"]["where"] = "lang = 'de'"
    content["tasks"][0]["adapter"] = f"{registry.url}@champion"
    return content


@pytest.fixture
def call(tmp_path, capsys):
    """Call the command with a job: exit code, stdout, stderr."""

    def call(content, *arguments):
        code = cli.main(["adapters", "diff", *arguments, "--job", str(lake.write_job(tmp_path, content))])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def labels(content, folder, version, registry):
    """The labels that the job writes with a version, None for the base."""
    task = content["tasks"][0] | {"adapter": version and f"{registry.url}@{version}"}
    out = folder / f"out-{version}"
    lake.execute(content | {"tasks": [task], "sink": {"path": str(out)}})
    return [row and row["label"] for row in lake.read(out)["sentiment"].to_pylist()]


def test_the_flips_are_those_between_the_columns_that_the_job_writes(call, added, job, registry, tmp_path):
    one, two = added
    before, after = (labels(job, tmp_path, version, registry) for version in added)
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert changed
    code, out, _ = call(job, "champion", two[:6], "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["column"], found["before"], found["after"]) == ("sentiment", one, two)
    assert (found["rows"], found["changed"]) == (80, len(changed))
    assert {(flip["before"], flip["after"]): flip["rows"] for flip in found["flips"]} == {
        pair: changed.count(pair) for pair in changed
    }
    code, out, _ = call(job, registry.url, one, two, "--rows", "2000", "--examples", "3")
    assert code == 0
    assert out.splitlines()[0] == f"sentiment: {one} -> {two}"
    assert f"{len(changed)} of 80 rows change" in out
    assert not (tmp_path / "out").exists()


def test_the_base_can_stand_for_a_version(call, added, job, registry, tmp_path):
    before, after = (labels(job, tmp_path, version, registry) for version in (None, added[1]))
    found = json.loads(call(job, "base", added[1], "--json")[1])
    assert found["before"] == "base"
    assert found["changed"] == sum(a != b for a, b in zip(before, after, strict=True))


def test_a_task_that_reads_the_column_of_an_earlier_task_gets_it(call, added, job, models):
    first = {"task": "classify", "column": "text", "into": "spam", "model": str(models / "spam"), "dtype": "float32"}
    second = job["tasks"][0] | {"column": "spam.label"}
    found = json.loads(call(job | {"tasks": [first, second]}, *added, "--json")[1])
    assert (found["column"], found["rows"]) == ("sentiment", 80)


def test_of_several_tasks_one_is_chosen(call, added, job):
    twice = job | {"tasks": [job["tasks"][0], job["tasks"][0] | {"into": "again"}]}
    code, _, err = call(twice, *added)
    assert code == 2
    assert "has 2 tasks with an adapter of a registry; choose one with --column; columns: sentiment, again" in err
    assert json.loads(call(twice, *added, "--column", "again", "--json")[1])["column"] == "again"
    assert "--column is 'nothing', which is no column with an adapter" in call(twice, *added, "--column", "nothing")[2]


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (["champion", "zzz"], {}, "has no version 'zzz'; versions: "),
        (["other/registry", "champion", "base"], {}, "takes its adapter from registry 'other/registry'; registries"),
        (["champion", "base"], {"adapter": None}, "takes its adapter from a registry; it names none"),
        (["champion", "champion"], {}, "'champion' and 'champion' are both"),
        (["champion", "base", "--rows", "0"], {}, "--rows is 0; give 1 or more"),
        (["champion", "base"], {"where": "lang = 'xx'"}, "has no rows to compare; check source.path and source.where"),
    ],
)
def test_wrong_arguments_are_one_sentence(call, added, job, arguments, changes, said):
    source = job["source"] | {key: value for key, value in changes.items() if key == "where"}
    task = job["tasks"][0] | {key: value for key, value in changes.items() if key == "adapter"}
    code, out, err = call(job | {"source": source, "tasks": [task]}, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
