"""Runs a corpus's own `prove` against an embedded Postgres and this checkout's daypass: `make corpus`.

    python -m tests.support.corpus DIR [--server BINDIR] [options for prove …]

It knows only how `prove` is called; what is proved is the corpus's business. Its exit code is prove's.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from proxy.demo.postgres import PostgresServer, any_bindir


def main() -> int:
    parser = argparse.ArgumentParser(prog="make corpus ARGS=…")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--server", type=Path, default=None, help="folder with postgres and initdb")
    options, rest = parser.parse_known_args()
    bindir = options.server or any_bindir()
    here = Path(sys.executable).parent
    with (
        PostgresServer(bindir) as server,
        subprocess.Popen(
            [
                sys.executable,
                str(options.corpus / "prove"),
                *("--pg", f"host={server.host} port={server.port} user={server.user} password={server.password}"),
                *("--daypass", shlex.quote(str(here / "daypass"))),
                *rest,
            ],
            env={**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), str(bindir)])},
            stderr=subprocess.PIPE,
            text=True,
        ) as prove,
    ):
        # Every case is a session of its own, and libpq prints the greeting of each.
        for line in prove.stderr or ():
            if not line.startswith("NOTICE:  daypass:"):
                sys.stderr.write(line)
    return prove.returncode


if __name__ == "__main__":
    sys.exit(main())
