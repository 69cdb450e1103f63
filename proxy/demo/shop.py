"""An embedded Postgres with the sample data, for scripts: `python -m proxy.demo.shop FILE`.

Writes what a configuration needs to FILE (a shell's assignments), then serves until SIGTERM or Ctrl-C. Leaves nothing
behind.
"""

from __future__ import annotations

import secrets
import signal
import sys
from pathlib import Path

from proxy.demo.postgres import PostgresServer
from proxy.demo.stage import ADMIN, DATABASE, load


def main(file: Path) -> int:
    """Serve until told to stop."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(0))
    password = secrets.token_hex(12)
    with PostgresServer() as postgres:
        postgres.start()
        load(postgres, password)
        facts = {"HOST": postgres.host, "PORT": postgres.port, "DBNAME": DATABASE, "ADMIN": ADMIN, "PASSWORD": password}
        new = file.with_name(f"{file.name}.new")
        new.touch(0o600)
        new.write_text("".join(f"SHOP_{name}={value}\n" for name, value in facts.items()))
        new.rename(file)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
