"""What of Postgres itself a vendor may use: the reviewed lists of functions, catalogs and settings.

Everything not named here is refused unless a policy names it. A function stands here only if no overload of it in
pg_catalog (Postgres 14 to 18) writes, locks, sleeps, signals, reads files or other servers, runs SQL held in a string,
tells the size, statistics or definition of what a policy may hide, or keeps state beyond its call.
Reviewed against pg_proc of Postgres 15 and 18; manual chapter 9 "Functions and Operators".
"""

from __future__ import annotations

import re

FUNCTIONS = frozenset(
    """
abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd degrees
div erf erfc exp factorial floor gamma lgamma gcd lcm ln log log10 min_scale mod pi pow power radians round scale sign
sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket random random_normal
ascii bit_length btrim casefold char_length character_length chr concat concat_ws format initcap left length lower
lpad ltrim md5 normalize is_normalized octet_length overlay parse_ident position quote_ident quote_literal
quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim split_part starts_with string_to_array
string_to_table strpos substr substring to_ascii to_bin to_hex to_oct translate unistr upper
bit_count get_bit get_byte set_bit set_byte convert convert_from convert_to encode decode crc32 crc32c sha224 sha256
sha384 sha512 like notlike like_escape similar_to_escape similar_escape pg_client_encoding
to_char to_date to_number to_timestamp
age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract isfinite justify_days justify_hours
justify_interval make_date make_interval make_time make_timestamp make_timestamptz now statement_timestamp timeofday
transaction_timestamp timezone overlaps
enum_first enum_last enum_range
area center diagonal diameter height isclosed isopen npoints pclose popen radius slope width box circle line lseg path
point polygon bound_box ishorizontal isvertical isparallel isperp
abbrev broadcast family host hostmask inet_merge inet_same_family masklen netmask network set_masklen
macaddr8_set7bit text
array_to_tsvector get_current_ts_config numnode phraseto_tsquery plainto_tsquery querytree setweight strip to_tsquery
to_tsvector websearch_to_tsquery json_to_tsvector jsonb_to_tsvector ts_delete ts_filter ts_headline ts_rank ts_rank_cd
tsquery_phrase tsvector_to_array tsvector_concat ts_lexize ts_match_vq ts_match_qv ts_match_tt ts_match_tq ts_parse
ts_token_type ts_debug
gen_random_uuid uuidv4 uuidv7 uuid_extract_timestamp uuid_extract_version
xml xmlagg xmlcomment xmlconcat2 xmlexists xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document
xpath xpath_exists xmltext
array_agg array_agg_transfn array_append array_cat array_dims array_length array_lower array_ndims
array_position array_positions array_prepend array_remove array_replace array_reverse array_sample array_shuffle
array_sort array_to_json array_to_string array_upper cardinality trim_array unnest generate_subscripts generate_series
isempty lower_inc lower_inf upper_inc upper_inf range_agg range_merge range_intersect_agg multirange
int4range int8range numrange tsrange tstzrange daterange int4multirange int8multirange nummultirange tsmultirange
tstzmultirange datemultirange elem_contained_by_range elem_contained_by_multirange
any_value avg bit_and bit_or bit_xor bool_and bool_or count every json_agg json_agg_strict json_object_agg
json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict jsonb_agg jsonb_agg_strict
jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict max min string_agg sum
corr covar_pop covar_samp regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
stddev stddev_pop stddev_samp variance var_pop var_samp mode percentile_cont percentile_disc
row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
num_nonnulls num_nulls
to_json to_jsonb row_to_json json_build_array json_build_object jsonb_build_array jsonb_build_object json_object
jsonb_object json_array_elements json_array_elements_text json_array_length json_each json_each_text
json_extract_path json_extract_path_text json_object_keys json_populate_record json_populate_recordset
json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_elements jsonb_array_elements_text
jsonb_array_length jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert
jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query
jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz
jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record
jsonb_to_recordset jsonb_typeof jsonb_concat jsonb_contains jsonb_exists jsonb_exists_all jsonb_exists_any
bool int2 int4 int8 float4 float8 numeric varchar bpchar name char date time timetz timestamp timestamptz interval oid
bit varbit money
current_catalog current_database current_schema current_schemas current_user session_user user
pg_backend_pid pg_is_in_recovery pg_typeof pg_collation_for pg_size_pretty pg_size_bytes pg_jit_available
col_description obj_description shobj_description format_type
pg_char_to_encoding pg_encoding_to_char pg_encoding_max_length pg_get_constraintdef pg_get_expr
pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result
pg_get_function_arg_default pg_get_indexdef pg_get_keywords
pg_get_partkeydef pg_get_partition_constraintdef pg_get_serial_sequence pg_get_statisticsobjdef_columns
pg_get_triggerdef pg_get_userbyid
pg_index_column_has_property pg_index_has_property pg_indexam_has_property pg_options_to_table
pg_relation_is_publishable pg_partition_ancestors pg_partition_root pg_partition_tree pg_my_temp_schema
pg_is_other_temp_schema
pg_collation_is_visible pg_conversion_is_visible pg_function_is_visible pg_opclass_is_visible pg_operator_is_visible
pg_opfamily_is_visible pg_statistics_obj_is_visible pg_table_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible
pg_ts_parser_is_visible pg_ts_template_is_visible pg_type_is_visible
aclexplode acldefault pg_has_role has_schema_privilege has_database_privilege
pg_advisory_unlock_all to_regtype
getdatabaseencoding pg_describe_object pg_identify_object pg_available_extensions pg_available_extension_versions
pg_basetype pg_sequence_parameters unicode_assigned hashtext hashtextextended
""".split()  # noqa: SIM905 (a list that a reviewer reads)
)
# Of these, the ones with another value at each call: never in a policy's own expressions.
VOLATILE = frozenset(
    """array_sample array_shuffle clock_timestamp gen_random_uuid pg_advisory_unlock_all random random_normal timeofday
uuidv4 uuidv7""".split()  # noqa: SIM905
)
# Allowed only with their schema written out: what drivers send on their own, not what a person asks.
QUALIFIED_ONLY = frozenset({"version"})
# Answered for some arguments only, see `arguments`: which, by function.
LIMITED = {
    "current_setting": "settings",
    "pg_table_size": "sizes",
    "pg_relation_size": "sizes",
    "pg_total_relation_size": "sizes",
    "pg_indexes_size": "sizes",
    "pg_database_size": "nothing",
    "pg_tablespace_size": "nothing",
    "pg_tablespace_location": "nothing",
    "pg_get_ruledef": "rules",
    "pg_get_viewdef": "definitions",
    "has_table_privilege": "privileges",
    "has_any_column_privilege": "privileges",
    "has_sequence_privilege": "privileges",
    "has_column_privilege": "privileges",
}
LIMITED_WORDS = {
    "settings": ("this setting is not shown", "SHOW ALL is refused too; \\dconfig lists the settings that are shown."),
    "sizes": (
        "{name}() does not answer here: sizes tell how much data there is",
        "Sizes are told of tables that the policy shows whole: {name}('schema.table'), or of a column: {name}(c.oid).",
    ),
    "nothing": ("{name}() does not answer here: it tells about more than the policy shows", "Leave it out."),
    "rules": ("the code of rules is not shown", "pg_rewrite lists their names."),
    "definitions": (
        "{name}() does not answer here: definitions of views are shown of views that the policy shows",
        "{name}('schema.view'::regclass) works for those; psql's \\d NAME works without +.",
    ),
    "privileges": ("{name}() does not answer for this name", "Ask about a table that the policy shows."),
}
# Functions whose answer is the code of another one.
CODE = {
    "pg_get_functiondef": "\\df NAME shows arguments and result.",
    "pg_get_function_sqlbody": "psql's \\df works without +.",
}
# What to do instead of a function that is not on the lists.
FUNCTION_HINTS = {
    "pg_sleep": "Statements that only wait are refused.",
    "nextval": "Taking a number from a sequence changes it; this access reads only.",
    "currval": "It answers about nextval() of this session, which is refused.",
    "lastval": "It answers about nextval() of this session, which is refused.",
    "pg_export_snapshot": "Use one connection, or REPEATABLE READ in each.",
}
SETTING_WRITERS = frozenset({"set_config"})
# Functions whose first argument names a relation.
NAMING = frozenset(
    """pg_partition_ancestors pg_partition_root pg_partition_tree pg_get_serial_sequence pg_index_has_property
pg_index_column_has_property pg_relation_is_publishable""".split()  # noqa: SIM905
)
# The length argument (0-based) of functions that make a value of any size out of nothing.
SIZED = {"repeat": 1, "lpad": 1, "rpad": 1}
SIZE_LIMIT = 10_000
# Functions of the information_schema that JDBC's metadata queries use.
INFORMATION_SCHEMA_FUNCTIONS = frozenset(
    {"_pg_expandarray", "_pg_truetypid", "_pg_truetypmod", "_pg_char_max_length", "_pg_numeric_precision"}
)
# Extensions whose immutable and stable, not SECURITY DEFINER functions were reviewed as free of side effects.
EXTENSIONS = frozenset(
    """citext hstore pg_trgm ltree intarray cube earthdistance fuzzystrmatch isn seg unaccent uuid-ossp btree_gin
btree_gist vector pgcrypto dict_int dict_xsyn bloom tsm_system_rows tsm_system_time""".split()  # noqa: SIM905
)

# Columns that a readable catalog does not show: SQL that stands in for the value, or None where the column is absent.
CATALOG_HIDDEN: dict[str, dict[str, str | None]] = {
    "pg_class": {
        "relfilenode": "0::pg_catalog.oid",
        "relpages": "0",
        "reltuples": "(-1)::pg_catalog.float4",
        "relallvisible": "0",
        "relallfrozen": "0",
        "relfrozenxid": "NULL::pg_catalog.xid",
        "relminmxid": "NULL::pg_catalog.xid",
    },
    "pg_attribute": {"attmissingval": "NULL::pg_catalog.text"},
    "pg_proc": {"prosrc": None, "probin": None, "prosqlbody": None},
    "pg_rewrite": {"ev_qual": None, "ev_action": None},
    "pg_views": {"definition": None},
    "pg_matviews": {"definition": None},
    "pg_sequences": {"last_value": "NULL::pg_catalog.int8"},
    "pg_settings": {"sourcefile": None, "sourceline": None, "reset_val": None},
    "pg_database": {
        "datfrozenxid": "NULL::pg_catalog.xid",
        "datminmxid": "NULL::pg_catalog.xid",
        "datlastsysoid": "NULL::pg_catalog.oid",
    },
}
ABSENT_HINTS = {
    "prosrc": "The code of functions is not shown; psql's \\df works without +.",
    "definition": "pg_get_viewdef('schema.view'::regclass) answers for views that the policy shows.",
}
# What to do instead of a catalog that cannot be read.
CATALOG_HINTS = {
    "pg_user_mappings": "User mappings hold passwords of other servers; \\des lists the servers.",
    "pg_user_mapping": "User mappings hold passwords of other servers; \\des lists the servers.",
    "pg_db_role_setting": "Settings of other roles are not shown; \\dconfig lists those of this session.",
    "pg_largeobject_metadata": "Large objects belong to no table, so no policy can show them.",
    "pg_largeobject": "Large objects belong to no table, so no policy can show them.",
    "pg_subscription": "Subscriptions hold passwords of other servers.",
    "pg_stats": "Statistics hold values of the tables; query the tables that the policy shows.",
    "pg_statistic": "Statistics hold values of the tables; query the tables that the policy shows.",
    "pg_stat_activity": "Other sessions and their statements are not shown.",
    "pg_locks": "Other sessions and their locks are not shown.",
    "pg_authid": "It holds password verifiers; pg_roles lists the roles.",
    "pg_shadow": "It holds password verifiers; pg_user lists the users.",
    "pg_rules": "Rules hold code; pg_rewrite lists their names.",
}
CATALOGS = frozenset(
    """
pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_auth_members pg_cast pg_class pg_collation
pg_constraint pg_conversion pg_database pg_depend pg_description pg_enum pg_event_trigger pg_extension
pg_foreign_data_wrapper pg_foreign_table pg_index pg_indexes pg_inherits pg_language pg_namespace pg_opclass
pg_operator pg_opfamily pg_partitioned_table pg_policy pg_proc pg_publication pg_publication_namespace
pg_publication_rel pg_range pg_parameter_acl pg_rewrite pg_views pg_matviews
pg_roles pg_sequence pg_settings pg_shdescription pg_statistic_ext pg_tables pg_tablespace
pg_timezone_abbrevs pg_timezone_names pg_transform pg_trigger pg_ts_config pg_ts_config_map pg_ts_dict pg_ts_parser
pg_ts_template pg_type pg_user pg_group pg_default_acl pg_available_extensions pg_available_extension_versions
pg_sequences
""".split()  # noqa: SIM905
) | {"pg_foreign_server"}
INFORMATION_SCHEMA = frozenset(
    """
applicable_roles attributes character_sets check_constraint_routine_usage check_constraints
collation_character_set_applicability collations column_column_usage column_domain_usage column_privileges
column_udt_usage columns constraint_column_usage constraint_table_usage data_type_privileges domain_constraints
domain_udt_usage domains element_types enabled_roles foreign_tables information_schema_catalog_name key_column_usage
parameters referential_constraints role_column_grants role_routine_grants role_table_grants role_udt_grants
role_usage_grants routine_privileges schemata sequences sql_features sql_implementation_info sql_parts sql_sizing
table_constraints table_privileges tables udt_privileges usage_privileges user_defined_types
""".split()  # noqa: SIM905
)

# Settings that a session may change: they change what is shown, never what may be read.
WRITABLE_SETTINGS = frozenset(
    """
application_name bytea_output client_encoding client_min_messages datestyle extra_float_digits intervalstyle lc_messages
timezone xmlbinary xmloption gin_fuzzy_search_limit default_text_search_config jit enable_bitmapscan
enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan enable_indexscan enable_material
enable_memoize enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning
enable_partitionwise_aggregate enable_partitionwise_join enable_seqscan enable_sort enable_tidscan
cursor_tuple_fraction from_collapse_limit join_collapse_limit geqo random_page_cost seq_page_cost cpu_tuple_cost
cpu_index_tuple_cost cpu_operator_cost effective_cache_size plan_cache_mode constraint_exclusion
max_parallel_workers_per_gather force_parallel_mode debug_parallel_query
lc_monetary lc_numeric lc_time escape_string_warning
""".split()  # noqa: SIM905
)
READABLE_SETTINGS = WRITABLE_SETTINGS | frozenset(
    """
server_version server_version_num server_encoding integer_datetimes is_superuser session_authorization
standard_conforming_strings transaction_isolation transaction_read_only transaction_deferrable
default_transaction_isolation default_transaction_read_only default_transaction_deferrable search_path
statement_timeout lock_timeout idle_in_transaction_session_timeout transaction_timeout idle_session_timeout
in_hot_standby lc_collate lc_ctype lc_monetary lc_numeric lc_time max_identifier_length max_index_keys
max_function_args block_size row_security escape_string_warning array_nulls role work_mem
quote_all_identifiers synchronize_seqscans
default_table_access_method default_tablespace session_user jit_above_cost
""".split()  # noqa: SIM905
)
_NOT_OURS = "NOT pg_catalog.starts_with({0}::pg_catalog.text, 'daypass_')"
# What a session sees of some catalogs: of pg_settings what SHOW would tell it, of roles none that other grants have,
# of the information_schema nothing of daypass's own.
CATALOG_ROWS = {
    f"information_schema.{view}": _NOT_OURS.format("table_schema")
    for view in ("tables", "columns", "views", "table_privileges", "column_privileges", "role_table_grants")
} | {
    "pg_catalog.pg_roles": f"({_NOT_OURS.format('rolname')} OR rolname OPERATOR(pg_catalog.=) CURRENT_USER)",
    "pg_catalog.pg_user": f"({_NOT_OURS.format('usename')} OR usename OPERATOR(pg_catalog.=) CURRENT_USER)",
    "pg_catalog.pg_group": _NOT_OURS.format("groname"),
    "pg_catalog.pg_settings": "pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY["
    + ", ".join(f"'{name}'" for name in sorted(READABLE_SETTINGS))
    + "])",
}
# Options of BEGIN and SET TRANSACTION that cannot widen anything.
TRANSACTION_OPTIONS = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable"})
# EXPLAIN options; ANALYZE runs the inner statement, which is judged like any other.
EXPLAIN_OPTIONS = frozenset(
    {
        "analyze",
        "verbose",
        "costs",
        "settings",
        "buffers",
        "wal",
        "timing",
        "summary",
        "format",
        "generic_plan",
        "memory",
        "serialize",
    }
)
COPY_OPTIONS = frozenset(
    {"format", "delimiter", "null", "header", "quote", "escape", "force_quote", "encoding", "freeze", "default"}
)

_NAME = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def setting(name: str) -> str:
    """A setting's name as the lists above write it."""
    return name.lower()


def quote(name: str) -> str:
    """An identifier as SQL, always quoted unless it is a plain lower-case word that no grammar reserves."""
    return '"' + name.replace('"', '""') + '"' if not _NAME.match(name) or name in RESERVED else name


RESERVED = frozenset(
    """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column
concurrently constraint create cross current_catalog current_date current_role current_schema current_time
current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze from
full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
unique user using variadic verbose when where window with
between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping inout int integer
interval json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
json_table json_value least merge_action national nchar none normalize nullif numeric out overlay position precision
real row setof smallint substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement
xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
""".split()  # noqa: SIM905
)
