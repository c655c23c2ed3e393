"""Small files of one folder, read again only if they have changed since this process last read them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jobs.store import Store

# Files may be replaced between the listing and the reading; then the folder is listed again.
ATTEMPTS = 20

THREADS = 16

T = TypeVar("T")


def read(
    store: Store,
    folder: str,
    is_wanted: Callable[[str], bool],
    read_one: Callable[[str], T],
    known: dict[str, tuple[str, T]],
) -> dict[str, T]:
    """The content of the files by name.

    Args:
        store: where they are.
        folder: which folder.
        is_wanted: whether a name is one of them.
        read_one: name -> content.
        known: name -> (version, content) of those that were read before; brought up to date.

    Raises:
        FileNotFoundError: files were replaced at each attempt.
    """
    for attempt in range(ATTEMPTS):
        listed = {name: version for name, version in store.versions(folder).items() if is_wanted(name)}
        for name in known.keys() - listed.keys():
            known.pop(name, None)
        changed = [name for name, version in listed.items() if name not in known or known[name][0] != version]
        try:
            if store.local or len(changed) < 2:
                found = list(map(read_one, changed))
            else:
                with ThreadPoolExecutor(THREADS) as threads:
                    found = list(threads.map(read_one, changed))
        except FileNotFoundError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        known |= {name: (listed[name], content) for name, content in zip(changed, found, strict=True)}
        return {name: known[name][1] for name in listed}
    raise AssertionError
