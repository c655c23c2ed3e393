"""Rows a second of a whole translate job, file to file, against plain `generate()` and CTranslate2.

    python -m tests.bench.seq2seq [--rows 192] [--repeats 3] [--small]

The model has the shape of an opus-mt Marian model (512 wide, 6 + 6 layers, 58,101 tokens) and random weights, but for what
makes it stop: each decoder layer adds nothing to its input, and the output layer reads a counter in the position
embedding, so that every text ends when its position passes a number that its own first source token says. All matrix
products are computed as ever; only what they add up to is known. So the lengths of the translations are skewed as
wanted (log-normal, median 24 tokens, a tail to 200), the same for every arm, and no training is needed.

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON. All arms are greedy.

    job          nightscribe
    generate     length-sorted batches of 32 through model.generate(), packed linear layers as in the job
    stock        the same as transformers loads it
    ct2          CTranslate2, its own sorting and batches of 32 (the fastest of 16, 32, 64 here), float32
    ct2 int8     the same with int8 weights
"""
