"""The names and phrases of one language."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Names of one kind, in two groups, so that held-out rows also have names that are not in training rows.

    Attributes:
        known: names that occur in both splits.
        unseen: names that occur in held-out rows only.
    """

    known: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """Names and phrases of one language; `{PERSON}`, `{CITY}` and `{PRODUCT}` in a phrase are slots for entities.

    A clause is a subject and a predicate. Subjects are all singular (in Arabic and Hebrew all masculine) and predicates
    are chosen so that nothing else has to agree.

    Attributes:
        first_names: of persons.
        last_names: of persons.
        cities: in the form that follows the prepositions used here.
        subject: a subject that names the product.
        aspects: subjects that any product has.
        screen_aspects: subjects of products with a screen.
        positive: predicates that praise, each with its negation, which blames.
        negative: predicates that blame, each with its negation, which praises.
        neutral: predicates that do neither.
        contrasts: joins of two clauses where `{b}` outweighs `{a}`.
        balances: joins of two clauses where neither outweighs the other.
        leads: first words of a sentence, before the clause.
        openers: sentences that may begin a review.
        asides: sentences with entities and no opinion.
        fillers: sentences without entities and without an opinion.
        verdicts: closing sentences by sentiment.
    """

    first_names: Names
    last_names: Names
    cities: Names
    subject: str
    aspects: tuple[str, ...]
    screen_aspects: tuple[str, ...]
    positive: tuple[tuple[str, str], ...]
    negative: tuple[tuple[str, str], ...]
    neutral: tuple[str, ...]
    contrasts: tuple[str, ...]
    balances: tuple[str, ...]
    leads: tuple[str, ...]
    openers: tuple[str, ...]
    asides: tuple[str, ...]
    fillers: tuple[str, ...]
    verdicts: dict[str, tuple[str, ...]]
