"""Metrics of texts against values computed by hand and by the libraries."""

import pyarrow as pa
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from jobs.evaluation import metrics, texts
from transforms.errors import SpecError

TRUE = ["the cat sat on the mat", "a red bird sang", "rain"]
WRITTEN = ["the cat sat on a mat", "a red bird sang", "snow"]


def measure(metric, task="translate", true=TRUE, written=WRITTEN):
    return metrics.measure(task, pa.table({"text": true, "target": true}), pa.array(written, pa.string()), metric)


def test_rouge_equals_the_values_computed_by_hand():
    measured = measure("rouge1")
    # 5 of 6 words: precision and recall 5/6.
    assert measured.correctness.tolist() == pytest.approx([5 / 6, 1, 0])
    assert measured.value == pytest.approx((5 / 6 + 1) / 3)
    # 3 of 5 pairs of words.
    assert measure("rouge2").correctness[0] == pytest.approx(3 / 5)


def test_rouge_is_computed_beside_another_metric_for_summaries_only():
    assert {"rouge1", "rouge2", "rougeL"} <= set(measure("chrf", task="summarize").others)
    assert set(measure("chrf").others) == {"bleu", "exact_match"}


def test_rouge_equals_the_library_s_own_on_english():
    scorer = RougeScorer(["rougeL", "rougeLsum"])
    for metric in ("rougeL", "rougeLsum"):
        expected = [scorer.score(a, b)[metric].fmeasure for a, b in zip(TRUE, WRITTEN, strict=True)]
        assert measure(metric).correctness.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("true", "written", "rouge1"),
    [
        ("القطة على السجادة", "القطة على الطاولة", 2 / 3),
        ("猫がいる", "犬がいる", 3 / 4),
        ("कुत्ता सोता है", "कुत्ता सोता है", 1.0),
        ("naïve café", "naïve thé", 1 / 2),
    ],
)
def test_rouge_compares_words_of_every_script(true, written, rouge1):
    assert measure("rouge1", true=[true], written=[written]).value == pytest.approx(rouge1)


def test_chrf_and_bleu_equal_sacrebleu_s_own():
    assert measure("chrf").value == pytest.approx(sacrebleu.corpus_chrf(WRITTEN, [TRUE]).score / 100)
    assert measure("bleu").value == pytest.approx(sacrebleu.corpus_bleu(WRITTEN, [TRUE]).score / 100)
    by_row = [sacrebleu.sentence_chrf(b, [a]).score / 100 for a, b in zip(TRUE, WRITTEN, strict=True)]
    assert measure("chrf").correctness.tolist() == pytest.approx(by_row)
    assert measure("bleu").correctness.tolist() == pytest.approx(by_row)


def test_the_computation_of_chrf_and_bleu_is_identified_by_sacrebleu_s_signatures():
    assert texts.signatures()["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    assert "tok:13a" in texts.signatures()["bleu"]


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        ("the cat sat on the mat", "13a"),
        ("القطة على السجادة", "13a"),
        ("कुत्ता सोता है", "13a"),
        ("猫坐在垫子上，看着窗外的 iPhone 广告。", "zh"),
        ("猫がマットの上に座っている。", "char"),
        ("고양이가 매트 위에 앉았다", "char"),
        ("แมวนั่งบนเสื่อ", "char"),
        ("", "13a"),
    ],
)
def test_bleu_is_that_of_characters_where_the_references_have_no_spaces_between_words(text, tokenizer):
    assert texts.tokenizer([text]) == tokenizer
    assert f"tok:{tokenizer}" in texts.signatures([text])["bleu"]


def test_bleu_of_chinese_is_not_all_or_nothing():
    true, written = ["猫坐在垫子上，狗在门边睡觉。"], ["猫坐在垫子上，狗在门口睡觉。"]
    expected = sacrebleu.corpus_bleu(written, [true], tokenize="zh").score / 100
    assert measure("bleu", true=true, written=written).value == pytest.approx(expected)
    assert 0.5 < expected < 0.9


def test_exact_match_ignores_spaces_at_the_ends_and_the_form_of_accents():
    table = pa.table({"prompt": ["p"] * 3, "completion": ["caf\u00e9", "two  words", "yes"]})
    written = pa.array(["cafe\u0301 ", " two words", "no"])
    measured = metrics.measure("generate", table, written)
    assert measured.metric == "exact_match"
    assert measured.correctness.tolist() == [1, 1, 0]


def test_a_row_without_a_text_is_wrong_even_if_the_reference_is_empty():
    measured = measure("exact_match", true=["", "a"], written=[None, "a"])
    assert measured.correctness.tolist() == [0, 1]
    assert measured.missing == 1


def test_the_first_answer_of_a_conversation_is_the_truth():
    messages = [
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "3+3?"},
            {"role": "assistant", "content": "6"},
        ]
    ]
    assert metrics.measure("generate", pa.table({"messages": messages}), pa.array(["4"])).value == 1


def test_structs_are_refused_in_one_sentence():
    with pytest.raises(SpecError, match="compares texts; evaluate with json_column: string"):
        metrics.measure("generate", pa.table({"prompt": ["a"], "completion": ["b"]}), pa.array([{"a": 1}]))
