"""The paper's adversarial training, of many members at once."""
