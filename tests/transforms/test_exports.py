"""What transformers' files export is kept, and read again when a file has changed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from transformers.utils import import_utils

from transforms import exports, user_cache

# Also a folder in a folder, names that need backends, and files without names.
FILES = {
    "__init__.py": "",
    "albert/__init__.py": "",
    "albert/modeling_albert.py": '__all__ = ["AlbertModel", "AlbertLayer"]\n',
    "albert/configuration_albert.py": '__all__ = ["AlbertConfig"]\n',
    "albert/convert_albert.py": '__all__ = ["unread"]\n',
    "deep/er/tokenization_er_fast.py": '__all__ = ["ErTokenizer"]\n',
    "deep/modeling_deep.py": 'x = 1\n@requires(backends=("vision",))\nclass DeepModel:\n    ...\n',
}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder like that of transformers' models, settled; the user's cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(exports, "SETTLED_S", -1.0)
    for name, content in FILES.items():
        file = tmp_path / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path / "models"


def later(models):
    """What the next process is told, and whether it read the folder."""
    read = []
    whole = import_utils.create_import_structure_from_path
    listed = exports.reading(lambda path: read.append(path) or whole(path), models, Path(exports.__file__))
    found = listed(models)
    assert listed(str(models / "__init__.py")) == found
    assert len(read) <= 1
    return found, bool(read)


def test_what_the_files_export_is_read_once(models):
    want = import_utils.create_import_structure_from_path(models)
    assert want["albert"][frozenset({"torch"})] == {"modeling_albert": {"AlbertModel", "AlbertLayer"}}
    assert later(models) == (want, True)
    assert later(models) == (want, False)


@pytest.mark.parametrize("change", ["write", "add", "remove", "rename"])
def test_a_folder_that_has_changed_is_read_again(models, change):
    later(models)
    file = models / "albert" / "modeling_albert.py"
    if change == "write":
        stat = file.stat()
        file.write_text(file.read_text().replace("AlbertLayer", "AlbertOther"))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "add":
        (models / "albert" / "processing_albert.py").write_text('__all__ = ["AlbertProcessor"]\n')
    elif change == "remove":
        file.unlink()
    else:
        file.rename(file.with_name("modeling_other.py"))
    assert later(models) == (import_utils.create_import_structure_from_path(models), True)
    assert not later(models)[1]


def test_files_that_python_compiles_are_no_change(models):
    later(models)
    (models / "albert" / "__pycache__").mkdir()
    (models / "albert" / "__pycache__" / "modeling_albert.cpython-311.pyc").write_bytes(b"code")
    assert not later(models)[1]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": "another version"}', b"{}"])
def test_a_damaged_file_in_the_cache_is_read_and_written_again(models, content):
    want, _ = later(models)
    (kept,) = user_cache.folder("exports").iterdir()
    kept.write_bytes(content)
    assert later(models) == (want, True)
    assert later(models) == (want, False)


def test_files_written_a_moment_ago_are_not_kept_since_they_may_change_within_the_same_time(models, monkeypatch):
    monkeypatch.setattr(exports, "SETTLED_S", 3600.0)
    later(models)
    assert later(models)[1]


def test_a_cache_that_cannot_be_written_is_no_error(models, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert later(models)[1]
    assert later(models)[1]


def test_an_import_of_transformers_does_not_read_all_of_its_models_a_second_time(tmp_path):
    program = textwrap.dedent("""
        import os, sys
        opened = set()
        sys.addaudithook(lambda event, given: opened.add(str(given[0])) if event == "open" else None)
        from transforms import lean
        lean.load()
        models = [path for path in opened if os.sep + os.path.join("transformers", "models", "") in path]
        print(sum(path.endswith(".py") for path in models) > 1000)
        import transformers
        from transformers.utils import import_utils
        print(transformers.BertModel.__name__, import_utils.create_import_structure_from_path.__module__)
        print(len(dir(transformers)), len(transformers.models._class_to_module))
        print([type(entry).__name__ for entry in sys.meta_path if type(entry).__module__.startswith("transforms.")])
    """)
    told = []
    for _ in range(2):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
        told.append(ran.stdout.splitlines())
    assert [read for read, *_ in told] == ["True", "False"]
    assert told[0][1:] == told[1][1:]
    assert told[1][1] == "BertModel transformers.utils.import_utils"
    assert told[1][3] == "['AfterImport']"
