"""What the recordings teach once they are half understood: mixtures, new generators, new labels."""
