"""Two texts joined by hand are what the tokenizer joins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from tests import tiny
from transforms import pairs


def xlnet_like():
    """Special tokens at the end, three type ids, padding on the left."""
    tokenizer = tiny.wordpiece()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "$A:0 [SEP]:0 [CLS]:2", "$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2", [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.padding_side = "left"
    return tokenizer


def bare_join():
    """No special tokens at all, as a GPT-2 has none."""
    tokenizer = tiny.byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


TOKENIZERS = {
    "bert": tiny.wordpiece(),
    "bert_lower": tiny.wordpiece(lowercase=True),
    "roberta": tiny.byte_level(),
    "xlnet": xlnet_like(),
    "gpt2": bare_join(),
}
TEXT = st.text(st.sampled_from("ab \t\né\u0301😀\u200dשم東.,'[]CLSEP</s>"), max_size=20) | st.sampled_from(tiny.HARD)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(first=TEXT, second=TEXT)
def test_a_joined_pair_equals_the_tokenizer_s_output(name, first, second):
    tokenizer = TOKENIZERS[name]
    template = pairs.learn(tokenizer)
    assert template is not None
    whole = tokenizer([first], [second], return_token_type_ids=True)
    a, b = pairs.bare(tokenizer, [first, second])["input_ids"]
    assert template.ids(a, b) == whole["input_ids"][0]
    assert template.type_ids(len(a), len(b)) == whole["token_type_ids"][0]
    assert template.special == tokenizer.num_special_tokens_to_add(pair=True)


@pytest.mark.parametrize(("name", "place"), [("bert", 0), ("roberta", 0), ("xlnet", 10), ("gpt2", None)])
def test_a_special_token_is_found_at_any_position(name, place):
    template = pairs.learn(TOKENIZERS[name])
    assert template is not None
    assert template.find(TOKENIZERS[name].cls_token_id, 5, 3) == place


def test_the_separator_is_found_behind_the_first_text():
    template = pairs.learn(TOKENIZERS["bert"])
    assert template is not None
    assert template.find(TOKENIZERS["bert"].sep_token_id, 5, 3) == 6


def test_a_tokenizer_that_joins_in_another_way_has_no_template():
    swapped = tiny.wordpiece()
    swapped.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $B [SEP] $A [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
    )
    assert pairs.learn(swapped) is None
