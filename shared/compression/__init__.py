"""Shorter prompts that say the same: what tools returned, and passages that were retrieved, as the provider gets them.

Instructions, what people and models said, tools and their arguments are never touched, nor is code.
"""
