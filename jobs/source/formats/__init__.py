"""File formats: each module has `inspect` (file -> Layout) and `read` (range -> record batches and bad rows)."""
