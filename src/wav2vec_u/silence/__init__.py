"""Where speech is: voice activity detection, and utterances with their way back to real time."""
