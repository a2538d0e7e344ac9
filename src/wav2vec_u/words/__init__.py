"""From phones to words: a word n-gram model, a decoding graph, and the search through it."""
