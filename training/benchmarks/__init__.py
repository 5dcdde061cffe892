"""Published tasks, peers and trivial predictors in one harness: `training.benchmark`."""
