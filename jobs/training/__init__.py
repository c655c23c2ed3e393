"""Training: the training file, its rows, and the child process that trains an adapter or a model."""
