-- The rows of both worlds; __W__ is 1 or 2. A value that hangs on it is a secret.
insert into vault.pay select i, (array[5550000, 8880000])[__W__] + i from generate_series(1, 20) i;
insert into shop.people
select i, 'Person ' || i, 'p' || case when __W__ = 1 then i::text else 'xxxxxx' end || '@firm.example',
       'TAX-' || __W__ || '-' || (case when __W__ = 1 then i else 999 - i end)::text,
       (array['AAAA', 'ZZZZ'])[__W__] || '-' || lpad(i::text, 4, '0'),
       make_date(1970 + i, (array[2, 11])[__W__], (array[3, 19])[__W__]), (array[1000, 7000])[__W__] + i, 'nick' || i,
       (array['Rome', 'Oslo', 'Lima'])[1 + i % 3]
from generate_series(1, 60) i;
insert into shop.orders
select i, 1 + i % 60, i * 1.5, (array['new', 'paid', 'sent'])[1 + i % 3], timestamptz '2026-01-01 00:00+00' + i * interval '1 hour',
       array['t' || i % 4], jsonb_build_object('n', i, 'a', jsonb_build_array(i, 2)), 'b' || i
from generate_series(1, 120) i;
insert into shop.notes select i, case when i <= 10 then 'pub' else 'priv' end,
    case when i <= 10 then 'hello ' || i else (array['SECRET-ONE', 'HIDDEN-TWO'])[__W__] end from generate_series(1, 10 + 40 * __W__) i;
insert into shop.events select i, case when i % 2 = 0 then 'open' else 'shut' end, date '2025-06-01' + i,
    case when i % 2 = 0 then 'fine' else (array['SECRET-ONE', 'HIDDEN-TWO'])[__W__] end from generate_series(1, 300) i;
insert into shop."Odd ""Name" values (1, 'x', 'y', (array['SECRET-ONE', 'HIDDEN-TWO'])[__W__]);
insert into shop.mixed values (1, '{1.5,2}', '{a}', 'sad', null);
analyze;
