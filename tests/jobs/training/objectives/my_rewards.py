"""Reward functions as a user would write them, for the tests of policies."""

import zlib


def short(prompts, completions, **columns):
    """More for fewer characters."""
    return [-float(len(text)) for text in completions]


def noise(prompts, completions, **columns):
    """The same number for the same answer, and otherwise nothing: what a reward of shuffled rows says."""
    return [zlib.crc32((p + c).encode()) / 2**31 for p, c in zip(prompts, completions, strict=True)]


def likes_reference(completions, reference):
    """1 for the true answer; a function that names the columns that it takes."""
    return [float(text == true) for text, true in zip(completions, reference, strict=True)]


def too_few(prompts, completions, **columns):
    """A mistake."""
    return [1.0]


def texts(prompts, completions, **columns):
    """A mistake."""
    return list(completions)


def fails(prompts, completions, **columns):
    """A mistake."""
    return [1 / 0 for _ in completions]


def not_numbers(prompts, completions, **columns):
    """A mistake."""
    return [float("nan") for _ in completions]


def no_arguments():
    """A mistake."""
    return []


NUMBER = 7
