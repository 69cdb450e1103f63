"""recorder.search_store: the index's file."""

import sqlite3
from pathlib import Path

import pytest

from recorder import search_store
from recorder.search_store import SearchIndexError


def test_another_version_is_said(tmp_path: Path) -> None:
    path = search_store.place(tmp_path)
    search_store.connect(path, create=True).close()
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()
    for create in (True, False):
        with pytest.raises(SearchIndexError, match="another version of daypass"):
            search_store.connect(path, create=create)
    search_store.remove(path)
    assert [left.name for left in path.parent.iterdir()] == []
