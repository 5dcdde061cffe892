"""An operator in training: settings, losses, the loop, and the folder of a run."""
