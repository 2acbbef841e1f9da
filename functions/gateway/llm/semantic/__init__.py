"""Answers for questions that say the same in other words as one that was answered before."""
