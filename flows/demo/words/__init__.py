"""The vocabulary and the phrases of the demo's reviews, one module per language."""

from __future__ import annotations

from flows.demo.words import ar, de, en, es, fr, he, it
from flows.demo.words.language import Language, Names

LANGUAGES: dict[str, Language] = {
    "en": en.ENGLISH,
    "de": de.GERMAN,
    "fr": fr.FRENCH,
    "es": es.SPANISH,
    "it": it.ITALIAN,
    "ar": ar.ARABIC,
    "he": he.HEBREW,
}

# Invented brands, the same in every language; a product's name is a brand followed by a product line of its category.
BRANDS = Names(
    known=(
        "Auralis", "Norvik", "Tamaro", "Kestrel", "Lumo", "Veltron", "Orbiqa", "Pinewood", "Zephyr", "Halden",
        "Mikado",
        "Solenne", "Brixton", "Quanta", "Ardeo", "Fjell", "Corvus", "Nimbia", "Sable", "Ostara", "Torino", "Calypso",
    ),
    unseen=("Vandor", "Elaris", "Kiruna", "Obsidia", "Talvik", "Merrow", "Jubilo", "Windermere"),
)  # fmt: skip

LINES: dict[str, tuple[str, ...]] = {
    "headphones": ("Buds", "Buds Pro", "Studio 2", "ANC 700", "Air", "H4"),
    "speaker": ("Boom", "Boom Mini", "One", "Sound 360", "S5", "Party"),
    "phone": ("X7", "X7 Plus", "Note 12", "Edge", "Lite", "9 Pro"),
    "tablet": ("Tab 11", "Tab", "Slate", "Pad Mini", "T3", "Draw"),
    "laptop": ("Book 14", "Book Air", "Flex", "ZenPro 16", "L490", "Station"),
    "smartwatch": ("Watch 3", "Fit", "Pulse", "Pulse 2", "W1", "Active"),
}
WITH_SCREEN = frozenset({"phone", "tablet", "laptop", "smartwatch"})

EMOJI: dict[str, tuple[str, ...]] = {
    "positive": ("😍", "👍🏽", "🎉", "❤️", "🤩", "💯"),
    "neutral": ("📦", "🤷‍♀️", "😐", "🔌", "🎧", "⌚"),
    "negative": ("😡", "👎", "💔", "🤬", "😭", "🗑️"),
}

__all__ = ["BRANDS", "EMOJI", "LANGUAGES", "LINES", "WITH_SCREEN", "Language", "Names"]
