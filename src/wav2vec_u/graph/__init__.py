"""What the text knows of words: an n-gram model, a decoding graph, and the search through it."""
