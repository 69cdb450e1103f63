"""recorder.search_words: how a query is spelled; what it finds is in test_search."""

import pytest

from recorder.search_words import forms, key, power, powers, spelled


@pytest.mark.parametrize(
    ("typed", "spelt"),
    [
        ("customers AND deny", "customers AND deny"),
        ("app.customers", '"app.customers"'),
        ("tables:app.customers", 'tables:"app.customers"'),
        ('"as it is."  x', '"as it is." x'),
        ('sql:"from app" x', 'sql:"from app" x'),
        ("(a OR b-c) NOT d", '( a OR "b-c" ) NOT d'),
        ("cust*", "cust*"),
        ("app.cust*", '"app.cust" *'),
        ("NEAR(a b, 3)", "NEAR ( a b, 3 )"),
        ("", ""),
    ],
)
def test_spelling(typed: str, spelt: str) -> None:
    assert spelled(typed) == spelt


@pytest.mark.parametrize("bad", ["(", ")", "a) OR (b", '"a', 'a "b" "'])
def test_halves(bad: str) -> None:
    with pytest.raises(ValueError, match=r"without its|does not end"):
        spelled(bad)


def test_keys() -> None:
    assert key("person", "a") != key("vendor", "a")
    assert key("person", "a\udcff").isalnum()
    assert forms("app.customers.email") == ("app.customers.email", "customers.email", "email")
    for rows in (1, 9, 10, 99, 12345):
        assert power(rows) == powers(rows).split()[-1]
    assert powers(0) == ""
    assert power(0) is None
    assert set(powers(127).split()) < set(powers(128).split())
