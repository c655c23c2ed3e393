"""Whether a model folder, and an adapter over it, is complete and fits its task: checked before any weights load.

    files      each file exists, is not a Git LFS pointer, and has the content that its name says
    config     config.json -> a configuration of transformers
    weights    the names and shapes of the stored tensors, from the headers of the weight files
    tokenizer  the tokenizer and its vocabulary
    network    the network on torch's meta device, without memory for its weights, compared with the stored tensors

`files`, `config`, `weights` and `tokenizer` need no torch; `network` does.
"""
