"""One client's life: opening, carrying, ending.

The only layer that sees wire, policy, access and recorder, and the one that keeps their order: judge, record,
forward. It has no sockets: bytes come in by method calls and go out by callables that `proxy.server` gives it.
"""
