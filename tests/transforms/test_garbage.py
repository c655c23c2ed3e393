"""Python looks for garbage seldom, and not among what is imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(code: str) -> list[str]:
    """What code prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_is_looked_for_while_libraries_are_imported_and_they_are_left_out_afterwards():
    told = run("""
        import gc, sys
        from transforms import garbage
        garbage.seldom()
        looks = []
        gc.callbacks.append(lambda phase, about: looks.append(phase))
        with garbage.importing("pyarrow.dataset"):
            import pyarrow.dataset
            kept = [[] for _ in range(200_000)]
        print(looks, gc.isenabled(), gc.get_threshold() == garbage.THRESHOLD, gc.get_freeze_count() > 200_000)
        more = [[] for _ in range(200_000)]
        print(looks[:2])
    """)
    assert told == ["[] True True True", "['start', 'stop']"]


def test_a_library_that_was_imported_before_changes_nothing():
    told = run("""
        import gc, json
        from transforms import garbage
        with garbage.importing("json"):
            print(gc.isenabled())
        print(gc.get_freeze_count())
    """)
    assert told == ["True", "0"]


def test_a_failed_import_and_imports_in_imports_leave_the_collector_on():
    told = run("""
        import gc
        from transforms import garbage
        try:
            with garbage.importing("no.such"), garbage.importing("no.such.either"):
                import no.such
        except ModuleNotFoundError as error:
            print(error, gc.isenabled())
        gc.disable()
        with garbage.importing("no.such"):
            pass
        print(gc.isenabled())
    """)
    assert told == ["No module named 'no' True", "False"]


def test_a_command_ends_without_a_last_look_at_all_that_it_has_imported():
    told = run("""
        import atexit, gc
        # Registered first, so it is called last.
        atexit.register(lambda: print(gc.get_freeze_count() > 10_000))
        from jobs import cli
        print(cli.main(["tasks"]))
        cli.main(["tasks"])
        print(gc.get_freeze_count())
    """)
    assert told[-2:] == ["0", "True"]


def test_a_process_that_used_duckdb_ends_without_a_list_of_leaks():
    code = """
        from transforms import garbage
        garbage.seldom()
        with garbage.importing("duckdb"):
            import duckdb
        with duckdb.connect(":memory:") as connection:
            print(connection.execute("SELECT 1").fetchall())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[(1,)]\n", "")


def test_a_later_collection_still_finds_garbage_that_was_made_after_the_imports():
    told = run("""
        import gc, weakref
        from transforms import garbage
        with garbage.importing("pyarrow.dataset"):
            import pyarrow.dataset
        class Node: ...
        node = Node()
        node.self, gone = node, weakref.ref(node)
        del node
        gc.collect()
        print(gone() is None)
    """)
    assert told == ["True"]
