"""A small grammar that writes invented customer reviews, each with its true sentiment and entities."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from flows.demo.words import BRANDS, EMOJI, LANGUAGES, LINES, WITH_SCREEN, Names

T = TypeVar("T")

SENTIMENTS = ("negative", "neutral", "positive")
OPPOSITE = {"negative": "positive", "positive": "negative"}
SLOT = re.compile(r"\{(PERSON|CITY|PRODUCT)\}")
WORD = re.compile(r"[^\W\d_]{4,}")
BLANKS = (" ", "   ", "\n", "\t \n", "\u00a0\u2003")
COMBINING_LOW_LINE = "\u0332"

MEDIAN_WORDS, SPREAD, MAX_WORDS = 20, 0.95, 900
HUGE_CHARACTERS = 50_000
UNSEEN_NAMES = 0.3


@dataclass(frozen=True)
class Entity:
    """A name in a text.

    Attributes:
        label: PERSON, CITY or PRODUCT.
        start: first code point.
        end: one past the last code point.
    """

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Review:
    """A text with its true sentiment and entities; a row without a text has neither.

    Attributes:
        text: what the customer wrote, or null.
        sentiment: negative, neutral or positive.
        entities: in the order of the text.
    """

    text: str | None
    sentiment: str | None = None
    entities: tuple[Entity, ...] | None = None


def write_review(kind: str, language: str, category: str, heldout: bool, rng: Random) -> Review:
    """Write a review.

    Args:
        kind: plain, or a special kind: null, empty, blank, emoji, combining or huge.
        language: a key of `LANGUAGES`.
        category: a key of `LINES`.
        heldout: whether it may use names that do not occur in training rows.
        rng: source of all random choices.
    """
    if kind == "null":
        return Review(None)
    if kind == "empty":
        return Review("")
    if kind == "blank":
        return Review(rng.choice(BLANKS))
    sentiment = rng.choices(SENTIMENTS, (35, 25, 40))[0]
    if kind == "emoji":
        return Review("".join(rng.choices(EMOJI[sentiment], k=rng.randint(1, 6))), sentiment, ())
    pieces = _Writer(language, category, heldout, rng).review(sentiment, kind)
    return Review("".join(piece.text for piece in pieces), sentiment, tuple(_entities(pieces)))


@dataclass(frozen=True)
class _Piece:
    """A piece of text; `label` is set if it is an entity."""

    text: str
    label: str | None = None


def _entities(pieces: Iterable[_Piece]) -> Iterable[Entity]:
    start = 0
    for piece in pieces:
        if piece.label:
            yield Entity(piece.label, start, start + len(piece.text))
        start += len(piece.text)


class _Writer:
    """Writes one review: chooses sentences, fills their slots with names, adds typing errors."""

    def __init__(self, language: str, category: str, heldout: bool, rng: Random):
        self.words = LANGUAGES[language]
        self.category = category
        self.heldout = heldout
        self.rng = rng
        self.subjects = (*self.words.aspects, *(self.words.screen_aspects if category in WITH_SCREEN else ()))
        self.product = self.name("PRODUCT")
        self.said: set[object] = set()

    def review(self, sentiment: str, kind: str) -> list[_Piece]:
        """The whole review."""
        sentences = self.sentences(sentiment)
        if kind == "combining":
            sentences[0] = (
                "".join(c + COMBINING_LOW_LINE if c.isalpha() else c for c in self.words.leads[0]) + sentences[0]
            )
        pieces = [piece for sentence in sentences for piece in (*self.fill(sentence), _Piece(self.gap()))][:-1]
        pieces = self.style(pieces)
        if kind == "combining":
            pieces = _each(pieces, lambda text: unicodedata.normalize("NFD", text))
        if kind == "huge":
            pieces += self.transcript(HUGE_CHARACTERS)
        return pieces

    def sentences(self, sentiment: str) -> list[str]:
        """Choose sentences, as many as a log-normal number of words needs; the opinions are in random places."""
        words = min(MAX_WORDS, MEDIAN_WORDS * self.rng.lognormvariate(0, SPREAD))
        opener = [self.rare(self.words.openers)] if words > 12 and self.rng.random() < 0.65 else []
        verdict = [self.rare(self.words.verdicts[sentiment])] if words > 10 and self.rng.random() < 0.5 else []
        body = [self.opinion(sentiment)]
        opinions = 1
        while sum(len(sentence.split()) for sentence in (*opener, *body, *verdict)) < words:
            kind = self.rng.choices(("opinion", "aside", "filler"), (38, 37, 25))[0]
            if kind == "opinion":
                opinions += 1
                # Every fourth opinion may have the opposite sentiment, so that a model has to read the whole review.
                stray = opinions % 4 == 0 and sentiment in OPPOSITE and self.rng.random() < 0.5
                body.append(self.opinion(OPPOSITE[sentiment] if stray else sentiment))
            else:
                body.append(self.fresh(self.words.asides if kind == "aside" else self.words.fillers))
        self.rng.shuffle(body)
        return [*opener, *body, *verdict]

    def opinion(self, sentiment: str) -> str:
        """A sentence with an opinion of that sentiment."""
        if sentiment == "neutral" and self.rng.random() < 0.75:
            clause = f"{self.subject()} {self.fresh(self.words.neutral)}"
        elif sentiment == "neutral":
            a, b = self.rng.sample(("negative", "positive"), 2)
            clause = self.join(self.words.balances, a, b)
        elif self.rng.random() < 0.92:
            clause = self.clause(sentiment)
        else:
            clause = self.join(self.words.contrasts, OPPOSITE[sentiment], sentiment)
        lead = self.fresh(self.words.leads) if self.rng.random() < 0.25 else ""
        return _capitalised(lead + clause) + self.rng.choices((".", "!", "!!", "...", ""), (70, 18, 4, 4, 4))[0]

    def join(self, joins: Sequence[str], a: str, b: str) -> str:
        """One sentence from a clause of sentiment `a` and a clause of sentiment `b`."""
        return self.rare(joins).replace("{a}", self.clause(a)).replace("{b}", self.clause(b))

    def clause(self, sentiment: str) -> str:
        """A clause that praises or blames; every fifth one negates the opposite."""
        negated = self.rng.random() < 0.2
        praise = (sentiment == "positive") != negated
        predicate = self.fresh(self.words.positive if praise else self.words.negative)[negated]
        return f"{self.subject()} {predicate}"

    def subject(self) -> str:
        """The subject of a clause."""
        return self.words.subject if self.rng.random() < 0.15 else self.fresh(self.subjects)

    def rare(self, choices: Sequence[T]) -> T:
        """A random choice; the first ones are more likely, as the frequencies of phrases are long-tailed."""
        return self.rng.choices(choices, [(1 + i) ** -0.8 for i in range(len(choices))])[0]

    def fresh(self, choices: Sequence[T]) -> T:
        """A random choice that the review has not used yet; once all are used, they may be used again."""
        if self.said.issuperset(choices):
            self.said.difference_update(choices)
        choice = self.rare([choice for choice in choices if choice not in self.said])
        self.said.add(choice)
        return choice

    def fill(self, sentence: str) -> Iterable[_Piece]:
        """Fill each slot of a sentence with a name; no name occurs twice."""
        used: set[str] = set()
        for i, part in enumerate(SLOT.split(sentence)):
            if i % 2 == 0:
                yield _Piece(part)
                continue
            name = self.product if part == "PRODUCT" and self.rng.random() < 0.6 else self.name(part)
            while name in used:
                name = self.name(part)
            used.add(name)
            yield _Piece(name, part)

    def name(self, label: str) -> str:
        """A random name of a person, a city or a product."""
        if label == "CITY":
            return self.pick(self.words.cities)
        if label == "PRODUCT":
            return f"{self.pick(BRANDS)} {self.rng.choice(LINES[self.category])}"
        first = self.pick(self.words.first_names)
        return f"{first} {self.pick(self.words.last_names)}" if self.rng.random() < 0.4 else first

    def pick(self, names: Names) -> str:
        """A random name that this row may use."""
        unseen = self.heldout and self.rng.random() < UNSEEN_NAMES
        return self.rng.choice(names.unseen if unseen else names.known)

    def gap(self) -> str:
        """The text between two sentences: white space, sometimes with an emoji."""
        return self.rng.choices((" ", "\n", "  ", f" {self.rng.choice('🙂😅🎧⌚📦')} "), (90, 5, 2, 3))[0]

    def style(self, pieces: list[_Piece]) -> list[_Piece]:
        """Add typing errors outside of names; sometimes make all letters lower or upper case."""
        rate = self.rng.choices((0, 0.02, 0.1), (70, 23, 7))[0]
        pieces = [piece if piece.label else _Piece(self.mistype(piece.text, rate)) for piece in pieces]
        case: Callable[[str], str] = self.rng.choices((str, str.lower, str.upper), (94, 4, 2))[0]
        return _each(pieces, case)

    def mistype(self, text: str, rate: float) -> str:
        """Swap, drop or double a letter in a share of the words."""

        def slip(match: re.Match[str]) -> str:
            word = match[0]
            if self.rng.random() >= rate:
                return word
            i = self.rng.randrange(1, len(word) - 1)
            middle = self.rng.choice((word[i + 1] + word[i], word[i + 1], word[i] + word[i : i + 2]))
            return word[:i] + middle + word[i + 2 :]

        return WORD.sub(slip, text)

    def transcript(self, characters: int) -> Iterable[_Piece]:
        """A long log of a support chat without names, as some customers paste it into a review."""
        lines, length, minute = ["\n"], 0, 0
        while length < characters:
            minute += self.rng.randint(0, 3)
            line = f"[{minute // 60 % 24:02}:{minute % 60:02}] {self.rng.choice(self.words.fillers)}\n"
            lines.append(line)
            length += len(line)
        yield _Piece("".join(lines))


def _each(pieces: Iterable[_Piece], change: Callable[[str], str]) -> list[_Piece]:
    return [_Piece(change(piece.text), piece.label) for piece in pieces]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
