"""Beam pipelines and what surrounds them: a spec in, a report out."""
