"""Executing a plan: shards in, part files out."""
