"""Windows together are the text, each fits, and cuts fall between sentences where they can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.generation.windows import space_after, windows


def words(texts):
    return [len(text.split()) for text in texts]


def letters(texts):
    return [len(text) for text in texts]


@given(st.text(max_size=300), st.integers(1, 40), st.sampled_from([words, letters]))
def test_windows_joined_are_the_text_and_each_fits_the_token_limit(text, room, count):
    found = windows(text, count, room)
    assert "".join(found) == text
    assert all(count([window])[0] <= room for window in found)


@pytest.mark.parametrize(
    "want",
    [
        ["One two. ", "Three four! ", "Five?"],
        ["He said. ", "“No, no.” ", "He left."],
        ["نعم ذهب. ", "لماذا عاد؟ ", "لا."],
        ["a b\n", "c d\n"],
    ],
)
def test_cuts_fall_between_sentences(want):
    assert windows("".join(want), words, 2) == want


def test_a_word_is_not_cut_between_a_letter_and_its_mark():
    found = windows("e\u0301" * 20, letters, 7)
    assert "".join(found) == "e\u0301" * 20
    assert not any(window.startswith("\u0301") for window in found)


def test_the_space_after_a_window_is_kept_for_joining():
    assert [space_after(window) for window in ("a.\n\n", "b. ", "。", "c\t")] == ["\n\n", " ", " ", "\t"]
