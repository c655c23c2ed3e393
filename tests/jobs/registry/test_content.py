"""The files of a version: changes that are found, and its copies in the cache of a machine."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.registry import Registry
from tests import s3
from tests.jobs.registry.versions import about
from transforms.errors import ModelError


def test_a_file_that_was_changed_or_deleted_later_is_found(tmp_path):
    registry = Registry(str(tmp_path / "registry"))
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "weights").write_text("one")
    name = registry.add(folder, about()).version
    file = tmp_path / "registry" / "versions" / name / "files" / "weights"
    file.write_text("two")
    with pytest.raises(ModelError, match=f"weights of version {name} in .* was changed after"):
        registry.folder(name)
    file.unlink()
    with pytest.raises(ModelError, match="is missing"):
        registry.folder(name)


def test_a_damaged_copy_in_the_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(f"memory://{tmp_path.name}-cached")
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "weights").write_text("one")
    name = registry.add(folder, about()).version
    copy = registry.folder(name)
    assert copy.is_relative_to(tmp_path / "cache")
    (copy / "weights").write_text("torn")
    assert (registry.folder(name) / "weights").read_text() == "one"
    registry.store.delete(f"versions/{name}/files/weights")
    assert (registry.folder(name) / "weights").read_text() == "one"
    (copy / "weights").unlink()
    with pytest.raises(ModelError, match=r"weights of version .* is missing"):
        registry.folder(name)


def test_several_threads_may_copy_a_version_into_the_cache_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "weights").write_text("one")
    with s3.server():
        registry = Registry("s3://lake/adapters/shared")
        name = registry.add(folder, about()).version
        with ThreadPoolExecutor(8) as threads:
            found = set(threads.map(registry.folder, [name] * 16))
    assert len(found) == 1
    assert (found.pop() / "weights").read_text() == "one"
    assert len(list((tmp_path / "cache" / "nightscribe" / "registry").iterdir())) == 1
