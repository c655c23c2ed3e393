"""Text generation: one decoding loop for encoder-decoders and decoder-only models, its settings and constraints."""
