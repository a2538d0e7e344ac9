"""Segments from frames: k-means, boundaries, averages, and the store that later stages read."""
