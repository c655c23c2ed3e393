"""The version of local weights: a hash of the folder, of which large files are read once."""

import os
import shutil

import pytest

from transforms import digest


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder whose files count as large and settled; this process remembers no hash, the user's cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "LARGE", 8)
    monkeypatch.setattr(digest, "SETTLED_S", -1.0)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights " * 10)
    digest._of.cache_clear()
    yield folder
    digest._of.cache_clear()


def later(folder):
    """The hash as the next process finds it, and the files that it reads."""
    digest._of.cache_clear()
    read, whole = [], digest._read
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(digest, "_read", lambda file: read.append(file.name) or whole(file))
        return digest.digest(folder), read


def test_the_hash_depends_on_names_and_contents_and_not_on_dates(weights, tmp_path):
    copy = shutil.copytree(weights, tmp_path / "copy")
    os.utime(copy / "config.json", (0, 0))
    assert digest.digest(copy) == digest.digest(weights)
    (copy / "config.json").write_text('{"a": 1}')
    assert digest.digest(copy) != digest.digest(weights)
    (copy / "config.json").write_text("{}")
    (copy / "config.json").rename(copy / "other.json")
    assert digest.digest(copy) != digest.digest(weights)


def test_a_later_process_reads_small_files_only(weights):
    first = digest.digest(weights)
    assert later(weights) == (first, ["config.json"])


def test_changed_weights_with_the_size_and_date_of_the_old_ones_have_another_hash(weights):
    file = weights / "model.safetensors"
    before, stat = digest.digest(weights), file.stat()
    file.write_bytes(b"WEIGHTS " * 10)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    found, read = later(weights)
    assert found != before
    assert sorted(read) == ["config.json", "model.safetensors"]


def test_the_hash_of_a_file_that_was_just_written_is_not_kept(weights, monkeypatch):
    monkeypatch.setattr(digest, "SETTLED_S", 60.0)
    first = digest.digest(weights)
    found, read = later(weights)
    assert found == first
    assert sorted(read) == ["config.json", "model.safetensors"]


def test_a_damaged_cache_is_not_believed(weights, tmp_path):
    first = digest.digest(weights)
    [kept] = (tmp_path / "cache/nightscribe/digests").iterdir()
    kept.write_bytes(b"short")
    found, read = later(weights)
    assert found == first
    assert "model.safetensors" in read
    assert later(weights)[1] == ["config.json"]


def test_a_cache_that_cannot_be_written_costs_time_only(weights, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    first = digest.digest(weights)
    found, read = later(weights)
    assert found == first
    assert "model.safetensors" in read


def test_folders_hashed_ahead_are_not_read_again(weights, tmp_path):
    with digest.ahead([weights, tmp_path / "not there"]):
        pass
    read = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(digest, "_read", lambda file: read.append(file))
        digest.digest(weights)
    assert read == []
