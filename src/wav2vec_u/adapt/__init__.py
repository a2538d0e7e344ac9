"""The encoder learns what was understood of the recordings: the last step of self-training."""
