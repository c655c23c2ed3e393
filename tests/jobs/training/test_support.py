"""The table of what can be trained: the page has what the code decides, and each refusal says what works instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.training import support, table

PAGE = Path(__file__).resolve().parents[3] / "jobs" / "training" / "README.md"


def test_the_page_is_what_the_code_decides():
    assert PAGE.read_text(encoding="utf-8") == table.markdown(), "run python -m jobs.training.table > that file"


def test_every_objective_has_a_row_and_every_method_a_yes():
    rows = list(table.rows())
    assert {objective for objective, *_ in rows} == set(support.TASKS)
    for method in support.METHODS:
        assert any(support.refusal(method, *row) is None for row in rows), method


def test_a_refusal_is_one_sentence_that_names_what_works():
    for objective in support.TASKS:
        for task in support.OF_TASK:
            for architecture in support.ARCHITECTURES:
                for method in support.METHODS:
                    why = support.refusal(method, objective, task, architecture)
                    assert why is None or ("\n" not in why and not why.endswith(".") and len(why) < 400)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("bert", "encoder"),
        ("distilbert", "encoder"),
        ("t5", "encoder-decoder"),
        ("bart", "encoder-decoder"),
        ("gpt2", "causal"),
        ("llama", "causal"),
    ],
)
def test_the_architecture_is_that_of_the_configuration(kind, architecture):
    from transformers import AutoConfig

    assert support.architecture(AutoConfig.for_model(kind)) == architecture
