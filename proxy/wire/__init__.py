"""The Postgres frontend/backend protocol, version 3, without sockets.

This package only *reads* and *writes* bytes: where a message begins and ends, what it says, which replies it
earns. It must not know policies, people, recordings or event loops. Its invariant: a length header is a claim
by a stranger. It is compared with a limit before it is believed, and nothing is allocated because of it.
"""
