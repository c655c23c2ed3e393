"""The short way to token ids and the long one end at the same place."""

import pytest
from transformers import AutoTokenizer, CanineTokenizer

from tests import tiny
from transforms.tokens import call_cut, cut_ids, token_ids

TEXTS = [
    *tiny.texts(60),
    "",
    " ",
    "one [MASK] and [SEP] of them",
    "<s>x</s> <mask>",
    "e\u0301 \u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680",
]


@pytest.mark.parametrize("folder", ["sentiment", "ner_bytes"])
@pytest.mark.parametrize("max_length", [None, 7, 64])
@pytest.mark.parametrize("split", [False, True])
def test_ids_are_those_of_the_tokenizer(models, folder, max_length, split):
    tokenizer = AutoTokenizer.from_pretrained(models / folder, split_special_tokens=split)
    whole = tokenizer(TEXTS, verbose=False)["input_ids"]
    want = whole if max_length is None else tokenizer(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert token_ids(tokenizer, TEXTS, max_length) == want
    assert (want != whole) == (max_length is not None and any(len(ids) > max_length for ids in whole))
    # The settings of one call are not those of the next.
    assert token_ids(tokenizer, TEXTS, None) == whole
    assert tokenizer(TEXTS, verbose=False)["input_ids"] == whole


def test_a_tokenizer_in_python_gives_its_ids():
    tokenizer = CanineTokenizer()
    assert not tokenizer.is_fast
    assert (
        token_ids(tokenizer, ["abc", "de" * 9], 6)
        == tokenizer(["abc", "de" * 9], truncation=True, max_length=6)["input_ids"]
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("folder", ["sentiment", "ner_bytes"])
@pytest.mark.parametrize("max_length", [2, 3, 7, 64])
def test_exactly_the_texts_above_the_maximum_length_are_cut(models, folder, max_length, side):
    tokenizer = AutoTokenizer.from_pretrained(models / folder, truncation_side=side)
    longer = [len(ids) > max_length for ids in tokenizer(TEXTS, verbose=False)["input_ids"]]
    assert [is_cut for _, is_cut in cut_ids(tokenizer, TEXTS, max_length)] == longer
    encoded, cut = call_cut(tokenizer, TEXTS, max_length=max_length)
    assert cut == longer
    assert encoded["input_ids"] == tokenizer(TEXTS, truncation=True, max_length=max_length)["input_ids"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_tokenizer_in_python_says_which_texts_are_cut(side):
    tokenizer = CanineTokenizer(truncation_side=side)
    texts = ["", "abc", "abcd", "abcde", "de" * 9, "x"]
    whole = tokenizer(texts, truncation=True, max_length=6)
    encoded, cut = call_cut(tokenizer, texts, max_length=6)
    assert cut == [False, False, False, True, True, False]
    assert cut_ids(tokenizer, texts, 6) == list(zip(whole["input_ids"], cut, strict=True))
    assert encoded == {name: whole[name] for name in ("input_ids", "token_type_ids")}


def test_a_tokenizer_in_python_says_which_pairs_are_cut():
    tokenizer = CanineTokenizer()
    texts, seconds = ["abc", "abcd", "x" * 20], ["yz", "yz", "y"]
    how = {"truncation": "only_first", "max_length": 8, "return_token_type_ids": True}
    whole = tokenizer(texts, seconds, **how)
    encoded, cut = call_cut(tokenizer, texts, seconds, **how)
    assert cut == [False, True, True]
    assert encoded == {name: whole[name] for name in ("input_ids", "token_type_ids")}
