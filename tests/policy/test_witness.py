"""What each parser sees, as `policy explain` tells it."""

from __future__ import annotations

from proxy.policy import witness


def test_both_parsers_side_by_side() -> None:
    (first, second) = witness.seen(b"select upper(c.name) from app.customers c where x = 'DE'; begin")
    assert first["postgres"] == {
        "tables": ["app.customers"],
        "functions": ["upper"],
        "names": ["c", "name", "x"],
        "strings": ["DE"],
    }
    for key in ("tables", "functions", "strings"):
        assert first["sqlglot"][key] == first["postgres"][key]
    assert set(first["postgres"]["names"]) <= set(first["sqlglot"]["names"])
    assert second["postgres"]["tables"] == []


def test_a_difference_can_be_seen() -> None:
    (seen,) = witness.seen(b"select ('PG_VERSION'::text).pg_read_file")
    assert seen["postgres"]["functions"] == []
    (broken,) = witness.seen(b"select from where")
    assert "syntax error" in broken["postgres"]["error"][0]
    assert "error" in broken["sqlglot"] or broken["sqlglot"]
