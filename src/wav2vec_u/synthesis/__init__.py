"""Speech that a rule-based synthesiser makes of text, with the phones it said and when."""
