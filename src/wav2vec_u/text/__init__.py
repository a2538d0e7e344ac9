"""Phones from unpaired text: normalise, phonemise, count; sentences and n-gram models."""
