"""Text that models write: one decoding loop for encoder-decoders and decoder-only models, and what steers it."""
