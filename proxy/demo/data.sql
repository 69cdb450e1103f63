-- The demonstration's data: a small online shop, made up, seeded, the same in every run.
-- Phone numbers, domains and social security numbers are from ranges that are given to nobody.
-- Loaded as superuser into an empty database; `daypass_admin` is the role with which daypass makes a role for each grant.
-- It may read schema app and pass that on, it is no superuser, and it has no right on hr at all.
begin;
select setseed(0.42);

create schema app;
create schema hr;

create table app.customers (
    id integer primary key,
    name text not null,
    email text not null,
    phone text not null,
    ssn text not null,
    country char(2) not null,
    created_at timestamptz not null
);
create table app.products (
    id integer primary key,
    name text not null,
    category text not null,
    price numeric(10, 2) not null
);
create table app.orders (
    id integer primary key,
    customer_id integer not null references app.customers,
    status text not null,
    placed_at timestamptz not null
);
create table app.order_items (
    order_id integer not null references app.orders,
    line integer not null,
    product_id integer not null references app.products,
    qty integer not null,
    price numeric(10, 2) not null,
    primary key (order_id, line)
);
create table app.events (
    id bigint primary key,
    kind text not null,
    customer_id integer not null,
    at timestamptz not null
);
create table hr.salaries (
    employee text primary key,
    title text not null,
    salary integer not null
);
create sequence app.invoice_seq start 100001;

insert into app.customers
select n, first || ' ' || last,
       lower(first) || '.' || lower(last) || n || '@' || (array['example.com', 'example.org', 'example.net'])[1 + n % 3],
       '+1 202 555 ' || lpad((n % 10000)::text, 4, '0'),
       '900-' || lpad((n / 10000 % 100)::text, 2, '0') || '-' || lpad((n % 10000)::text, 4, '0'),
       (array['DE', 'US', 'FR', 'GB', 'NL', 'PL', 'SE', 'ES'])[1 + floor(8 * power(random(), 1.6))::int],
       timestamptz '2024-01-01 08:00+00' + random() * interval '700 days'
from (
    select n,
           (array['Ada', 'Ben', 'Carla', 'David', 'Elif', 'Farid', 'Greta', 'Hugo', 'Ines', 'Jonas', 'Kaya', 'Lena',
                  'Marek', 'Nora', 'Omar', 'Paula', 'Quentin', 'Rosa', 'Sven', 'Tilda'])[1 + floor(20 * random())::int] as first,
           (array['Almeida', 'Becker', 'Costa', 'Dubois', 'Eriksen', 'Fischer', 'Garcia', 'Hansen', 'Ivanova', 'Jansen',
                  'Kowalski', 'Lopez', 'Moreau', 'Novak', 'Olsen', 'Petrov', 'Rossi', 'Schmidt', 'Tanaka', 'Weber'])[1 + floor(20 * random())::int] as last
    from generate_series(1, 20000) n
) people;

insert into app.products
select n, (array['Oak', 'Steel', 'Linen', 'Glass', 'Cork', 'Wool', 'Copper', 'Bamboo'])[1 + n % 8] || ' '
          || (array['Lamp', 'Desk', 'Chair', 'Shelf', 'Rug', 'Mug', 'Bowl', 'Clock', 'Basket', 'Mirror'])[1 + n / 8 % 10]
          || ' No. ' || n,
       (array['home', 'office', 'kitchen', 'garden'])[1 + n % 4], round((5 + 395 * power(random(), 2))::numeric, 2)
from generate_series(1, 400) n;

insert into app.orders
select n, 1 + floor(20000 * random())::int,
       (array['delivered', 'delivered', 'delivered', 'shipped', 'paid', 'returned'])[1 + floor(6 * random())::int],
       timestamptz '2026-01-01 00:00+00' + n * interval '5 minutes' + random() * interval '4 minutes'
from generate_series(1, 80000) n;

insert into app.order_items
select o, line, p.id, 1 + floor(3 * random())::int, p.price
from (select o, line, 1 + floor(400 * random())::int as product
      from generate_series(1, 80000) o, generate_series(1, 2) line
      where line = 1 or o % 2 = 0) picked
join app.products p on p.id = picked.product;

insert into app.events
select n, (array['view', 'view', 'view', 'cart', 'checkout', 'login'])[1 + floor(6 * random())::int],
       1 + floor(20000 * random())::int, timestamptz '2026-09-01 00:00+00' + n * interval '1 minute'
from generate_series(1, 100000) n;

insert into hr.salaries
select 'Employee ' || n, (array['Engineer', 'Accountant', 'Manager', 'Designer'])[1 + n % 4], 42000 + floor(90000 * random())::int
from generate_series(1, 150) n;

create index on app.orders (customer_id);
create index on app.orders (placed_at);
create index on app.events (at);

grant usage on schema app to daypass_admin with grant option;
grant select on all tables in schema app to daypass_admin with grant option;
commit;
analyze;
