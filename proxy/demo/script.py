"""What the vendor tries in the demonstration, and what must come of it.

Values only: no I/O. A step that must be refused is judged by what the vendor read, and again by what the recording
says; a step that must be allowed also names text that has to be, or must not be, in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of the vendor. `shows`/`hides`: text that the answer must and must not hold."""

    title: str
    sql: str
    refused: bool = False
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()

    def complaint(self, answer: str) -> str | None:
        """Why `answer` is not what should have come; None when it is."""
        if self.refused and "ERROR:" not in answer:
            return "should have been refused"
        if not self.refused and ("ERROR:" in answer or "FATAL:" in answer):
            return "should have been allowed"
        for text in self.shows:
            if text not in answer:
                return f"should show {text!r}"
        for text in self.hides:
            if text in answer:
                return f"should not show {text!r}"
        return None


STEPS = (
    Step(
        "analytics",
        "select c.country, count(distinct o.id) as orders, sum(i.qty * i.price) as revenue\n"
        "from customers c join orders o on o.customer_id = c.id join order_items i on i.order_id = o.id\n"
        "where o.placed_at >= date '2026-07-01' group by c.country order by revenue desc limit 3;",
        shows=("(3 rows)", "DE"),
    ),
    Step(
        "masked columns",
        "select id, name, email, phone from customers order by id limit 3;",
        shows=("***@example", "(3 rows)"),
        hides=("omar.hansen", "+1 202 555"),
    ),
    Step(
        "select *: the ssn is not there",
        "select * from customers where id = 42;",
        shows=("(1 row)", "country"),
        hides=("ssn", "900-"),
    ),
    Step("the hidden column by name", "select name, ssn from customers limit 3;", refused=True, hides=("900-",)),
    Step("a write", "update customers set email = 'me@evil.example';", refused=True),
    Step("a table that the policy does not name", "select * from hr.salaries;", refused=True, hides=("Employee",)),
    Step("a server's file", "select pg_read_file('/etc/passwd');", refused=True, hides=("root:",)),
    Step("a sequence moved", "select nextval('app.invoice_seq');", refused=True, hides=("10000",)),
    Step("the connection kept busy", "select pg_sleep(600);", refused=True),
    Step("out of the read-only session", "begin read write;", refused=True),
    Step(
        "still connected, work goes on",
        "select status, count(*) from orders group by status order by 2 desc limit 2;",
        shows=("(2 rows)", "delivered"),
    ),
)

# What the vendor's own Postgres role answers to somebody who has got past daypass: (statement, refused).
WALL = (
    ("select ssn from app.customers limit 1;", True),
    ("select salary from hr.salaries limit 1;", True),
    ("update app.orders set status = 'paid';", True),
    ("select count(*) from app.orders;", False),
)
