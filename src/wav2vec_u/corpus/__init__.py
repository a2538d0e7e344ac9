"""Which recordings are taken in, and their samples at 16 kHz."""
