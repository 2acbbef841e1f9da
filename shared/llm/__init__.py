"""Model traffic: OpenAI's dialect, server-sent events, outgoing connections, and the client for other functions."""
