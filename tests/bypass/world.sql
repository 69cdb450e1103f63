-- A small firm, twice: everything that the policy of test_evasions.py shows is equal in both worlds, every secret differs.
-- What stands in `shop` is on the search path; nothing of `vault` is granted. The rows are in rows.sql.
create schema shop;
create schema vault;

create table vault.pay (person_id int primary key, amount int not null);

create table shop.people (
    id int primary key,
    name text not null,
    mail text not null,                  -- masked: email
    tax_no text not null,                -- denied
    iban text,                           -- masked: last4
    born date,                           -- masked: year
    wage numeric(10, 2),                 -- masked: null
    nick text,                           -- masked: hash
    city text not null
);

create table shop.orders (id int primary key, person_id int references shop.people, total numeric(10, 2), state text,
    placed timestamptz, tags text[], doc jsonb, b text);
create table shop.notes (id int primary key, owner text not null, body text not null);   -- rows: owner = 'pub'
create table shop.events (id int, kind text, at date, note text) partition by range (at);  -- rows: kind = 'open'
create table shop.events_25 partition of shop.events for values from ('2025-01-01') to ('2026-01-01');
create table shop.events_26 partition of shop.events for values from ('2026-01-01') to ('2027-01-01');
create table shop."Odd ""Name" (id int, "sel""ect" text, "über" text, secret text);        -- denied: secret
create sequence shop.invoice_no;
create view shop.people_tax as select id, tax_no from shop.people;

-- traps: none of these functions is allowed by the policy, but for shop.vat
create function shop.vat(numeric) returns numeric language sql stable return round($1 * 0.2, 2);
create function shop.wages(int) returns int language sql stable security definer begin atomic select amount from vault.pay where person_id = $1; end;
create function shop.top() returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.bump() returns bigint language sql volatile begin atomic select nextval('shop.invoice_no'); end;
create function shop.known(text) returns boolean language sql stable security definer begin atomic select exists (select from shop.people where tax_no = $1); end;
create function shop.upper(varchar) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.reverse(int) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.round(numeric[]) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.length(char[]) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.array_to_tsvector(variadic text[]) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.pay_of(shop.orders) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.ident(anyelement) returns int language sql stable security definer as 'select max(amount) from vault.pay';
create function shop.md5(shop.orders) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.tax_of(shop.people) returns text language sql stable begin atomic select ($1).tax_no; end;
create function shop.sum_step(int, numeric) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create aggregate shop.total_pay(numeric) (sfunc = shop.sum_step, stype = int, initcond = '0');
create function vault.max(int) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function vault.same(int, int) returns boolean language sql stable security definer begin atomic select max(amount) > 6000000 from vault.pay; end;
create function vault.same(text, text) returns boolean language sql stable security definer begin atomic select max(amount) > 6000000 from vault.pay; end;
create operator vault.=== (function = vault.same, leftarg = int, rightarg = int);
create operator shop.<-> (function = vault.same, leftarg = int, rightarg = int);
create operator shop.~~* (function = vault.same, leftarg = int, rightarg = int);
create function shop.shared_text(money) returns text language sql stable security definer begin atomic select max(amount)::text from vault.pay; end;
create cast (money as text) with function shop.shared_text(money);
create type shop.mood as enum ('sad', 'fine');
create function shop.mood_pay(shop.mood) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create cast (shop.mood as int) with function shop.mood_pay(shop.mood);
create domain shop.tax as text check (value is null or shop.known(value));
create domain shop.tax2 as shop.tax;
create domain shop.plain as text;
create domain vault.code as text;
create type shop.pair as (a int, t shop.tax2);
create collation vault.c from "C";
create table shop.mixed (id int, list numeric(10, 2)[], codes char(5)[], m shop.mood, t shop.tax2);
create table shop.child () inherits (shop.orders);
create view shop.pay_view as select id, shop.wages(id) as pay from shop.orders;

-- words that newer grammars know and older servers call
create function shop.json_array(int) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.json_scalar(int) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.json_value(jsonb, text) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.json_query(jsonb, text) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.json_exists(jsonb, text) returns boolean language sql stable security definer begin atomic select max(amount) > 6000000 from vault.pay; end;
create function shop.json_serialize(int) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
create function shop.json_arrayagg(int) returns int language sql stable security definer begin atomic select max(amount) from vault.pay; end;
