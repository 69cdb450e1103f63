"""Access admits: who may come in, to which database, from when until when.

Grants, their tokens, and the store that keeps them. It knows nothing of SQL statements, sockets or recordings; what it
does is told through an `emit` callable before it counts.
"""
