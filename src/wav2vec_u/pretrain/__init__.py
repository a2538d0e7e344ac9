"""An encoder of our own, learned from audio alone: wav2vec 2.0 and masked prediction."""
