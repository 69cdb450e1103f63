"""Sockets, TLS, deadlines, health: what carries a session's bytes, and nothing of what they mean."""
