"""Where this program keeps what it can do without."""

import os
from pathlib import Path

import pytest

from transforms import user_cache


def test_the_folder_is_that_of_the_variable_or_in_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache.folder("a", "b") == tmp_path / "nightscribe/a/b"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache.folder() == tmp_path / "home/.cache/nightscribe"


def test_a_user_without_a_home_has_a_folder_among_the_temporary_ones(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert user_cache.folder("digests").parts[-3:] == (f"cache-{os.getuid()}", "nightscribe", "digests")


def test_a_file_is_replaced_as_a_whole_and_leaves_no_other(tmp_path):
    file = tmp_path / "below" / "file"
    user_cache.write(file, b"one")
    user_cache.write(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(file.parent.iterdir()) == [file]
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        user_cache.write(file / "below", b"three")
