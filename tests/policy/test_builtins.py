"""The reviewed lists against a real server: what stands in them exists, and what must never does not."""

from __future__ import annotations

import re

from proxy.catalog import Catalog
from proxy.policy import builtins

NEVER = re.compile(
    r"(lo_|loread|lowrite|query_to|table_to|schema_to|database_to|cursor_to|ts_stat|ts_rewrite|dblink|nextval|setval"
    r"|currval|lastval|setseed|txid|set_config|current_setting|currtid|inet_(server|client)|binary_upgrade|brin_"
    r"|gin_clean|has_(table|column|any_column|sequence|function)_priv|to_regclass|to_regproc|version$|current_query"
    r"|array_fill)"
    r"|pg_(read|write|ls|stat_|stat$|sleep|notify|advisory_lock|try_advisory|terminate|cancel|reload|rotate|switch|create_"
    r"|drop_|logical|replication|export|import|backup|start_backup|stop|wal|promote|current_wal|lock_status|prepared"
    r"|cursor|settings|show|config$|hba|ident_file|file|relation_size|table_size|total|database_size|tablespace_size"
    r"|indexes_size|column_size|get_(view|function|rule)def|get_function_sqlbody|sequence_last|nextoid|xact|snapshot"
    r"|visible|mcv|get_(replication|publication|shmem|backend)|log_|blocking|safe_snapshot|isolation)"
)


def test_nothing_dangerous_is_on_the_list() -> None:
    assert [name for name in builtins.FUNCTIONS if NEVER.match(name)] == []


def test_the_lists_name_what_exists(shop_catalog: Catalog) -> None:
    assert shop_catalog.server_version_num >= 180000
    gone = {"array_agg_transfn", "current_catalog", "user", "pg_catalog"}
    missing = {name for name in builtins.FUNCTIONS if name not in shop_catalog.builtin_functions} - gone
    assert missing == set()
    relations = {r.name for r in shop_catalog.relations if r.schema == "pg_catalog"}
    assert relations >= builtins.CATALOGS
    assert builtins.CATALOG_HIDDEN.keys() <= builtins.CATALOGS


def test_catalogs_with_data_or_code_are_not_on_the_list() -> None:
    closed = "pg_authid pg_statistic pg_stats pg_rules pg_shadow pg_user_mapping"
    assert not builtins.CATALOGS & set(closed.split())
    code = {
        ("pg_views", "definition"),
        ("pg_matviews", "definition"),
        ("pg_proc", "prosrc"),
        ("pg_rewrite", "ev_action"),
    }
    assert {(c, n) for c, hidden in builtins.CATALOG_HIDDEN.items() for n, sql in hidden.items() if sql is None} >= code


def test_quote() -> None:
    assert [builtins.quote(n) for n in ("a", "A b", 'x"y', "select", "")] == ["a", '"A b"', '"x""y"', '"select"', '""']
