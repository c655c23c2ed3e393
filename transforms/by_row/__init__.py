"""Adapters by row: one base in memory, and each row of a batch computed with the adapter that the row names.

    selection   which adapter computes each row of the forward pass
    layers      layers that add the low-rank term of each row's own adapter to what the base computes
    terms       an adapter folder -> its low-rank terms and its own modules (heads), checked
    install     the layers in the place of the base's
    trial       whether a batch of several adapters gives what one adapter at a time gives
    annotator   a task whose rows are computed together, each by its own adapter

The adapters are not merged into the weights, as a single adapter is. A LoRA (Hu et al. 2021, arXiv:2106.09685) adds
x A B to the output of a layer; A and B of all adapters are stacked, so that one batched product computes the terms of
all rows. PEFT computes the adapters of a mixed batch one after another.
"""
