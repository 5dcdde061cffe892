"""Published tasks, peers and trivial predictors in one harness: ``python -m training.benchmark``."""
