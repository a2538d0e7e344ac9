"""An encoder of our own: the network, its checkpoints, and the one that ships."""
