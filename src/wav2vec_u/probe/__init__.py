"""Which features: a linear probe of every block of an encoder, and a choice without labels."""
