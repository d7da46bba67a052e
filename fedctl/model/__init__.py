"""The nouns: frozen types, limits, grammar, transition tables. No I/O."""
