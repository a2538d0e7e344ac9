"""Frames from speech: encoders, extraction, and the store that later stages read."""
