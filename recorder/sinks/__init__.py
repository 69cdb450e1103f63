"""Streams the record off the machine: what is durable here goes to every sink, in order, until the sink has taken it.

    <dir>/.sinks/<name>.json   how far a sink is (`cursor`)      <dir>/.sinks/held/   plain lines that are still owed
    <dir>/.sinks/<name>.lock   held by whoever delivers to it

Must not know networks: a sink is a callable that takes a batch or says why not. Invariant: a cursor moves only after
the sink has taken what lies before it, so nothing is lost, and what comes twice has the same id.
"""
