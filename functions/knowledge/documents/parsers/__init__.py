"""Formats to text and blocks. Runs in a child process only; each format's library is imported when it is needed."""
