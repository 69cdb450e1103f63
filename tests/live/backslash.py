"""psql's backslash commands: what each must do through daypass, and a psql that runs many of them in one session.

`\\?` of psql 15 and 18 lists them. REFUSED names what is not shown, with words of the refusal; the rest works.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_LISTINGS = """
d da dA dAc dAf dAo dAp db dc dC dconfig dd dD ddp dE des det deu dew df dfa dfn dfp dft dfw dF dFd dFp dFt dg
di dl dL dm dn do dO dp dP dPt dPi dPn drds drg dRp dRs ds dt dT du dv dx dX dy l z lo_list dtvmsE
""".split()  # noqa: SIM905 (a list that a reviewer reads)
_NO_SYSTEM = frozenset(
    """
dA dF dFd dFp dFt dP l dl lo_list drg z
""".split()  # noqa: SIM905 (a list that a reviewer reads)
)
_NO_PATTERN = frozenset({"dl", "lo_list"})
_NO_SCHEMA = frozenset(
    """
db dconfig dd des deu dew dg du dL dn drds drg dRp dRs dx dy l dAc dAf dAo dAp dA dl lo_list
""".split()  # noqa: SIM905 (a list that a reviewer reads)
)
_SINCE_16 = ("\\drg", "\\bind", "\\watch")

OTHERS = r"""
\d customers|\d+ customers|\d orders|\d+ orders|\d plain|\d+ plain|\d+ child|\d events|\d+ events|\d+ events_2026
\d paid|\d+ paid|\d+ customer_names|\d+ products_copy|\d orders_placed|\d+ orders_placed|\d invoice_seq|\d+ invoice_seq
\d "Odd Name"|\d pair|\d+ pair|\d remote|\d+ remote|\d hr.salaries|\d+ hr.salaries|\d hr.rich|\d+ hr.rich|\dt hr.*
\dt *.*|\dv+ *.*|\d pg_catalog.pg_class|\d+ pg_catalog.pg_class|\d information_schema.tables|\df vat numeric
\dconfig work*|\dconfig+ *timeout|\df+ vat|\sf app.vat|\sf+ app.coded|\sf lower(text)|\ef app.vat|\sv paid
\sv+ app.customer_names|\sv products_copy|\ev app.paid|\conninfo|\encoding|\encoding UTF8|\set|\timing on|\timing off
\x on|\x off|\dt+ products|\dt+ orders|\di+ orders*|\l+ shop|\db+ pg_default|\lo_export 4711 '/dev/null'|\c
\copy products to '/dev/null'|\copy orders (id, status) to '/dev/null'|\copy customers (id, email) to '/dev/null' csv
\copy customers to '/dev/null'|\copy customers (ssn) to '/dev/null'|\copy (select * from customers) to '/dev/null' csv
select count(*) from orders \gdesc|select 1 as one \gset|select 'select 2' \gexec|select 1 \gx
select status, customer_id % 3 as c, count(*) from orders group by 1, 2 \crosstabview
select $1::int \bind 3 \g|select 1 \watch c=1 i=0.01
"""
REFUSED = {
    "deu": "pg_user_mappings",
    "df+": "code of functions|prosrc is not shown",
    "dfS+": "code of functions|prosrc is not shown",
    **dict.fromkeys((f"df{kind}{suffix}" for kind in "anptw" for suffix in ("+", "S+")), "code|prosrc"),
    "dl": "pg_largeobject_metadata",
    "lo_list": "pg_largeobject_metadata",
    "drds": "pg_db_role_setting",
    "dRs": "pg_subscription",
    "sf": "code of functions is not shown|coded() is not allowed",
    "sf+": "code of functions is not shown|coded() is not allowed",
    "ef": "code of functions is not shown",
    "sv": "cannot be read under the policy|definitions of views",
    "sv+": "cannot be read under the policy|definitions of views",
    "ev": "cannot be read under the policy",
    "lo_export": "function call message is not available",
    "copy customers to": "cannot be copied as a table",
    "copy customers (ssn)": "app.customers.ssn is hidden",
}


def refusal_of(command: str) -> str | None:
    """Words of the refusal that a command gets, alternatives parted by |; None for one that works."""
    name = command.removeprefix("\\").split()[0]
    for known, words in REFUSED.items():
        if known == name or (known == name.rstrip("S+") and not known.startswith("df")):
            return words
        if " " in known and command.removeprefix("\\").startswith(known):
            return words
    return None


def commands(version: int) -> list[str]:
    """Every command that psql of this version has: plain, S, +, with and without a pattern."""
    found = []
    for name in _LISTINGS:
        for suffix in ("", "S", "+", "S+") if name != "z" else ("",):
            if "S" in suffix and name in _NO_SYSTEM:
                continue
            found.append(f"\\{name}{suffix}")
            if "S" not in suffix and name not in _NO_PATTERN:
                found.append(f"\\{name}{suffix} p*")
                if name not in _NO_SCHEMA:
                    found.append(f"\\{name}{suffix} app.*")
    found += [command for line in OTHERS.strip().splitlines() for command in line.split("|")]
    return [c for c in found if version >= 16 or not any(new in c for new in _SINCE_16)]


@dataclass(frozen=True, slots=True)
class Shown:
    """What psql printed for one command."""

    command: str
    out: str
    err: str


def run(psql: Path, dsn: str, texts: list[str]) -> list[Shown]:
    """One session that runs all commands, one after the other."""
    script = "".join(f"\\echo @@{n}\n\\warn @@{n}\n{text}\n" for n, text in enumerate(texts)) + "\\echo @@\n\\warn @@\n"
    done = subprocess.run(
        [psql, "-X", dsn],
        input=script,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=120,
        env={**os.environ, "PSQL_EDITOR": "true", "PGCLIENTENCODING": "UTF8"},
    )
    out, err = _parts(done.stdout), _parts(done.stderr)
    return [Shown(text, out[str(n)], err[str(n)]) for n, text in enumerate(texts)]


def _parts(text: str) -> dict[str, str]:
    parts = (part.partition("\n") for part in text.split("@@")[1:])
    return {number: rest for number, _, rest in parts}
