"""Fine-tuning: an encoder and transcripts, or pseudo-labels, become a recogniser (CTC)."""
