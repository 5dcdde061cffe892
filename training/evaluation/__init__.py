"""What `python -m training.evaluate` is made of."""
