"""Metrics of written texts: ROUGE by rouge-score, chrF and BLEU by sacreBLEU, exact match."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import regex

from jobs.evaluation.metrics import ROUGE, Measured
from transforms.errors import SpecError

# Letters of scripts that are written without spaces are words of their own, as in multilingual ROUGE.
WORDS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*|[[\p{L}\p{M}\p{N}]"
    r"--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]+",
    regex.V1,
)

# Scripts whose words sacreBLEU's default tokenizer does not find, and the tokenizer for them. Hangul has spaces, but
# between phrases. sacreBLEU's own tokenizers for Japanese and Korean need packages with large dictionaries, and its
# sentence pieces are downloaded; characters are computed everywhere alike.
TOKENIZERS = {
    "zh": regex.compile(r"\p{Han}"),
    "char": regex.compile(r"[\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"),
}
LETTER = regex.compile(r"\p{L}")

# Japanese mixes Han letters with at least this share of kana; Chinese has them in names only.
JAPANESE = 0.1


class Words:
    """The tokenizer of ROUGE for texts in any script.

    The default of rouge-score drops every letter that is not ASCII, so that two Arabic texts always have ROUGE 0; for
    ASCII texts this one gives the same words.
    """

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, in lower case."""
        return WORDS.findall(text.lower())


def measure(truth: pa.Array, predictions: pa.Array, metric: str, others: Sequence[str] = ()) -> Measured:
    """ROUGE, chrF, BLEU or exact match over all rows; see `metrics.measure`.

    ROUGE is the mean F1 of the rows; chrF and BLEU are those of the corpus. The correctness of a row is its own value
    of the metric; for BLEU, which is not meaningful for single rows, it is the row's chrF. BLEU is that of words where
    the reference texts have spaces between them, else of characters; see `tokenizer`.

    Args:
        truth: the reference texts.
        predictions: the written texts; a null counts as an empty text.
        metric: one of `metrics.TEXTS`.
        others: ROUGE metrics to compute too; rougeL takes 1 ms for two texts of 80 words, and longer texts its square.

    Raises:
        SpecError: the predictions are no texts.
    """
    if not (pa.types.is_string(predictions.type) or pa.types.is_large_string(predictions.type)):
        raise SpecError(
            f"the task gives {predictions.type}, and {metric} compares texts; evaluate with json_column: string"
        )
    references = [text or "" for text in truth.to_pylist()]
    written = [text or "" for text in predictions.to_pylist()]
    rouge = [name for name in ROUGE if name in (metric, *others)]
    by_row = {**_rouge(references, written, rouge), "chrf": _chrf(references, written)}
    by_row["exact_match"] = np.array([_plain(a) == _plain(b) for a, b in zip(references, written, strict=True)], float)
    missing = predictions.is_null().to_numpy(zero_copy_only=False)
    for values in by_row.values():
        values[missing] = 0.0
    overall = {name: float(values.mean()) for name, values in by_row.items()}
    overall |= of_corpus(truth, predictions)
    value = overall.pop(metric)
    return Measured(
        metric, value, overall, by_row["chrf" if metric == "bleu" else metric], len(written), int(missing.sum())
    )


def tokenizer(references: Sequence[str]) -> str:
    """The tokenizer of BLEU, by the script of most letters of the reference texts.

    Returns:
        `zh` (characters of Han script, words of others) for Chinese; `char` for Japanese, Korean, Thai, Lao, Khmer and
        Burmese; `13a`, sacreBLEU's default, for scripts with spaces between words.
    """
    text = "".join(references)
    letters = len(LETTER.findall(text))
    han, others = (len(TOKENIZERS[name].findall(text)) for name in ("zh", "char"))
    if 2 * (han + others) <= letters:
        return "13a"
    return "char" if others > JAPANESE * (han + others) else "zh"


def signatures(references: Sequence[str] = ()) -> dict[str, str]:
    """What identifies the computation of chrF and BLEU for such references, as sacreBLEU asks to report it."""
    chrf, bleu = _scorers(references)
    for scorer in (chrf, bleu):
        scorer.corpus_score(["a"], [["a"]])
    return {"chrf": str(chrf.get_signature()), "bleu": str(bleu.get_signature())}


def _scorers(references: Sequence[str]) -> tuple[Any, Any]:
    from sacrebleu.metrics import BLEU, CHRF

    return CHRF(), BLEU(tokenize=tokenizer(references))


def of_corpus(truth: pa.Array, predictions: pa.Array) -> dict[str, float]:
    """The metrics that are computed over all rows at once: chrf and bleu. Arguments as of `measure`."""
    references = [text or "" for text in truth.to_pylist()]
    written = [text or "" for text in predictions.to_pylist()]
    chrf, bleu = _scorers(references)
    return {
        "chrf": float(chrf.corpus_score(written, [references]).score) / 100,
        "bleu": min(1.0, float(bleu.corpus_score(written, [references]).score) / 100),
    }


def _chrf(references: Sequence[str], written: Sequence[str]) -> np.ndarray:
    chrf, _ = _scorers(references)
    pairs = zip(references, written, strict=True)
    return np.array([min(1.0, chrf.sentence_score(text, [reference]).score / 100) for reference, text in pairs])


def _rouge(references: Sequence[str], written: Sequence[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    from rouge_score.rouge_scorer import RougeScorer

    if not names:
        return {}
    scorer = RougeScorer(list(names), use_stemmer=False, tokenizer=Words())
    scores = [scorer.score(reference, text) for reference, text in zip(references, written, strict=True)]
    return {name: np.array([score[name].fmeasure for score in scores], float) for name in names}


def _plain(text: str) -> str:
    """A text for exact match: composed Unicode, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())
