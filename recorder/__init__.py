"""Remembers: what a session did, line by line, so that nobody can change it afterwards unseen.

Knows events, files, hashes and signatures. Must not know: the wire, policies, grants, or anything in `proxy`; an
auditor verifies and replays with this package alone (`python -m recorder verify DIR`).

Invariant: a line is written whole and chained to the line before it, or the recording is broken and says so.
"""
