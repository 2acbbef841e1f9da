"""Nouns that two or more functions need. Never imports `functions`."""
