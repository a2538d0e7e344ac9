"""The words of every utterance, with their phones and times."""
