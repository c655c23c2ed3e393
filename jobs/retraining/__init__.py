"""One round of the training loop: train a challenger, measure it against the champion, decide, promote."""
