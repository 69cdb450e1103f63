-- More of the firm of tests/bypass/world.sql: a column of every common type, shown (s_…) and hidden (h_…), so that any
-- function and operator finds an argument that fits; a filtered table whose hidden rows break what touches them; and
-- canaries under the names that sqlglot gives a meaning of its own.
create type shop.size as enum ('s', 'm', 'l');
create table shop.many (
    id int primary key, s_int int, h_int int, s_big bigint, h_big bigint, s_num numeric, h_num numeric,
    s_float float8, h_float float8, s_text text, h_text text, s_varchar varchar(40), h_varchar varchar(40),
    s_bool bool, h_bool bool, s_date date, h_date date, s_stamp timestamptz, h_stamp timestamptz,
    s_time time, h_time time, s_span interval, h_span interval, s_json json, h_json json, s_jsonb jsonb, h_jsonb jsonb,
    s_bytea bytea, h_bytea bytea, s_uuid uuid, h_uuid uuid, s_inet inet, h_inet inet,
    s_ints int[], h_ints int[], s_texts text[], h_texts text[], s_point point, h_point point, s_box box, h_box box,
    s_range int4range, h_range int4range, s_vector tsvector, h_vector tsvector, s_bits varbit, h_bits varbit,
    s_char "char", h_char "char", s_money money, h_money money, s_oid oid, h_oid oid, s_size shop.size, h_size shop.size
);
create index on shop.many (h_int);
create index on shop.many (s_int, (h_text || s_text));
create table shop.filtered (id int primary key, keep bool not null, n int, t text, d date, j jsonb, a int[]);   -- rows: keep
create table vault.ledger (id int primary key, many_id int references shop.many, amount numeric, note text);
create sequence vault.ledger_no;
create materialized view vault.ledger_sum as select many_id, sum(amount) from vault.ledger group by 1;
create function shop.all_of(shop.many) returns text language sql stable security definer begin atomic select ($1).h_text; end;
create function shop.h_text(shop.many) returns text language sql stable security definer begin atomic select ($1).h_text; end;
create function vault.book(int) returns bigint language sql volatile security definer begin atomic select nextval('vault.ledger_no'); end;
