"""`nightscribe adapters push` and `pull`: a version of one registry in another one."""

import shutil

import pytest

from jobs import cli
from jobs.registry import Registry
from tests import lake
from tests.jobs.registry import versions

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def source(tmp_path):
    return Registry(str(tmp_path / "source"))


@pytest.fixture(params=["disk", "memory"])
def target(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Registry(str(tmp_path / "target") if request.param == "disk" else f"memory://{tmp_path.name}-target")


@pytest.fixture
def one(source, tmp_path):
    """The name of the champion of the source, a version of three files."""
    (folder := tmp_path / "one" / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "one" / "weights").write_text("one")
    name = source.add(tmp_path / "one", versions.about()).version
    source.promote(name, "gate", "first")
    return name


@pytest.fixture
def call(capsys):
    """Call a command in this process: exit code, stdout, stderr."""

    def call(*arguments):
        code = cli.main(["adapters", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def content(registry, name):
    """Path -> bytes of a version in its registry."""
    files = [f"files/{file}" for file in registry.version(name).files]
    return {each: registry.store.get(f"versions/{name}/{each}") for each in ("version.json", "README.md", *files)}


def test_a_pushed_version_has_the_same_name_and_the_same_bytes(call, source, target, one):
    code, out, _ = call("push", source.url, one[:5], "--to", target.url)
    assert (code, out) == (0, f"{one}: copied to {target.url}, 3 files\n")
    assert content(target, one) == content(source, one)
    assert target.champion() is None
    assert call("push", source.url, "--to", target.url)[:2] == (0, f"{one}: is in {target.url}\n")
    assert [version.version for version in target.versions()] == [one]


def test_a_pulled_champion_becomes_the_champion_here_once(call, source, target, one):
    pull = ("pull", target.url, "--from", source.url, "--promote", "--by", "ada")
    code, out, _ = call(*pull)
    assert (code, out.splitlines()[-1]) == (0, f"champion: {one}, before: none")
    [move] = target.history()
    assert (move.version, move.by, move.reason) == (one, "ada", f"copied from {source.url}")
    assert call(*pull)[:2] == (0, f"{one}: is in {target.url}\nchampion: {one}, as before\n")
    assert len(target.history()) == 1


def test_a_copy_that_was_killed_does_not_exist_and_is_continued(call, source, tmp_path, one):
    target = Registry(str(tmp_path / "target"))
    # What a copy leaves whose process was killed: one file whole, one torn, and no version.json.
    files = tmp_path / "target" / "versions" / one / "files"
    shutil.copytree(tmp_path / "source" / "versions" / one / "files" / "deep", files / "deep")
    (files / "weights").write_text("o")
    whole = (files / "deep" / "config.json").stat()
    assert target.versions() == []
    assert call("push", source.url, "--to", target.url)[0] == 0
    assert content(target, one) == content(source, one)
    after = (files / "deep" / "config.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (whole.st_ino, whole.st_mtime_ns)


def test_pushing_again_mends_a_damaged_copy(call, source, target, one):
    call("push", source.url, "--to", target.url)
    target.store.put(f"versions/{one}/files/weights", b"torn")
    assert call("push", source.url, "--to", target.url)[0] == 0
    assert content(target, one) == content(source, one)


def test_a_damaged_version_is_not_copied(call, source, target, one):
    source.store.put(f"versions/{one}/files/weights", b"torn")
    code, _, err = call("push", source.url, "--to", target.url)
    assert code == 2
    assert f"weights of version {one} in " in err
    assert "was changed after the version was added" in err
    assert target.store.find("") == []


@pytest.mark.parametrize("action", ["push", "pull"])
def test_a_mistyped_source_is_named_and_nothing_is_written(call, source, tmp_path, one, action):
    typo, target = tmp_path / "typo", tmp_path / "target"
    arguments = ("push", typo, "--to", target) if action == "push" else ("pull", target, "--from", typo)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(("nightscribe: REGISTRY '", "nightscribe: --from '"))
    assert "typo' is no registry: no version was ever added to it" in err
    assert not typo.exists()
    assert not target.exists()
    code, _, err = call("push", source.url, "zzz", "--to", target)
    assert code == 2
    assert f"has no version 'zzz'; versions: {one}" in err


def test_a_job_gives_the_same_rows_with_a_pulled_version(call, source, tmp_path, models):
    name = versions.add(source, models / "sentiment", tmp_path, 1)
    source.promote(name, "gate", "first")
    target = tmp_path / "target"
    assert call("pull", target, "--from", source.url, "--promote", "--by", "ada")[0] == 0
    rows = lake.make_lake(tmp_path / "in", files=1, n=20)
    for url, sink in ((source.url, "out"), (target, "out-pulled")):
        job = lake.job(rows, tmp_path / sink, models)
        job["tasks"][0]["adapter"] = f"{url}@champion"
        lake.execute(job)
    assert lake.read(tmp_path / "out-pulled").equals(lake.read(tmp_path / "out"))
