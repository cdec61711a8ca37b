"""Captions that say what is absent: phrasings, corpora, and the pipelines P1, Rand-P1 and P2."""
