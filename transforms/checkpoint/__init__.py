"""Whether a model folder, and an adapter over it, is complete and fits its task: checked before any weights load.

    files      a file that is there, is no Git LFS pointer and holds what its name says
    config     config.json -> a configuration of transformers
    weights    the names and shapes of the stored tensors, from the headers of the weight files
    tokenizer  the tokenizer and its vocabulary
    network    the network without memory for its weights (torch's meta device), compared with the stored tensors

`files`, `config`, `weights` and `tokenizer` need no torch; `network` does.
"""
