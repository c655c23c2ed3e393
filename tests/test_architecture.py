"""Three rooms that import one way (flows -> jobs -> transforms), one framework a room, no junk drawers."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("transforms", "jobs", "flows")
FRAMEWORKS = {
    "prefect": "flows",
    "accelerate": "jobs",
    "apache_beam": "jobs",
    "datasets": "jobs",
    "huggingface_hub": "jobs",
    "trl": "jobs",
}
JUNK_DRAWERS = {"common", "helper", "helpers", "util", "utils"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(source: str, package: str) -> Iterator[tuple[str, int]]:
    """Every dotted name that a module of `package` imports, wherever in the module, and the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield ".".join([*above, *filter(None, [node.module])]), node.lineno


def offences(room: str, forbidden: set[str]) -> list[str]:
    """The imports in a room whose top-level package is forbidden there, as `file:line imports name`."""
    found = []
    for path in modules(room):
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for name, line in imports(path.read_text(encoding="utf-8"), package):
            if name.split(".")[0] in forbidden:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return found


def test_transforms_imports_neither_jobs_nor_flows():
    assert offences("transforms", {"jobs", "flows"}) == []


def test_jobs_does_not_import_flows():
    assert offences("jobs", {"flows"}) == []


@pytest.mark.parametrize(("framework", "home"), FRAMEWORKS.items())
def test_a_framework_is_imported_in_its_own_room_only(framework: str, home: str):
    assert [line for room in ROOMS if room != home for line in offences(room, {framework})] == []


def test_no_room_imports_the_tests():
    assert [line for room in ROOMS for line in offences(room, {"tests"})] == []


def test_no_module_is_named_utils_or_common():
    named = [path.relative_to(ROOT) for room in ROOMS for path in modules(room)]
    assert [str(path) for path in named if JUNK_DRAWERS & set(path.with_suffix("").parts)] == []


def test_the_first_line_of_every_module_describes_it():
    silent = []
    for path in (path for room in ROOMS for path in modules(room)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree, clean=False)
        if docstring is None or tree.body[0].lineno != 1 or not docstring.split("\n")[0].strip():
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_that_are_imported_are_this_repository_s(room: str):
    file = importlib.import_module(room).__file__
    assert file is not None, f"{room} has no __init__.py"
    assert Path(file).resolve().parent == ROOT / room


def test_no_other_distribution_brings_packages_of_our_names():
    # `jobs` and `flows` are words that others may take too; whichever is first on the path would win.
    owners = importlib.metadata.packages_distributions()
    assert {room: others for room in ROOMS if (others := set(owners.get(room, [])) - {"nightscribe"})} == {}


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("import jobs.spec as spec", "transforms", "jobs.spec"),
        ("from jobs import spec", "transforms", "jobs"),
        ("def f():\n    from prefect import flow", "jobs", "prefect"),
        ("if TYPE_CHECKING:\n    import flows", "jobs", "flows"),
        ("from . import shard", "jobs.source", "jobs.source"),
        ("from ..plan import Plan", "jobs.source", "jobs.plan"),
    ],
)
def test_imports_inside_functions_and_blocks_are_found(source: str, package: str, found: str):
    assert [name for name, _ in imports(source, package)] == [found]
