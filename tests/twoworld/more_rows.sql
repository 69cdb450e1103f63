-- The rows of more.sql; __W__ is 1 or 2.
insert into shop.many
select i, i, i * 7 + w, i * 1000, i * 1000 + w, i / 4.0, i / 4.0 + w, i * 0.5, i * 0.5 + w, 'text ' || i,
    (array['SECRET-ONE', 'HIDDEN-TWO'])[w] || ' ' || i, 'v' || i % 5, (array['SECRET-ONE', 'HIDDEN-TWO'])[w], i % 2 = 0,
    i % 2 = w - 1, date '2025-01-01' + i, make_date(1970 + i, (array[2, 11])[w], (array[3, 19])[w]),
    timestamptz '2025-01-01 00:00+00' + i * interval '1 hour', timestamptz '2025-01-01 00:00+00' + w * interval '90 days',
    time '10:00' + i * interval '1 minute', time '10:00' + w * interval '1 hour', i * interval '1 day', w * interval '31 days',
    json_build_object('k', i), json_build_object('k', (array['SECRET-ONE', 'HIDDEN-TWO'])[w]), jsonb_build_object('k', i, 'a', '[1,2]'::jsonb),
    jsonb_build_object('k', (array['SECRET-ONE', 'HIDDEN-TWO'])[w]),
    convert_to('b' || i, 'UTF8'), convert_to((array['SECRET-ONE', 'HIDDEN-TWO'])[w], 'UTF8'), md5(i::text)::uuid, md5(w || 'x' || i)::uuid,
    ('10.0.0.' || i)::inet, ('192.168.' || w || '.' || i)::inet, array[i, i + 1], array[w, i], array['t' || i],
    array[(array['SECRET-ONE', 'HIDDEN-TWO'])[w]], point(i, i), point(w, i), box(point(0, 0), point(i, i)), box(point(0, 0), point(w, i)),
    int4range(i, i + 5), int4range(w, w + 5), to_tsvector('simple', 'word ' || i), to_tsvector('simple', (array['SECRET-ONE', 'HIDDEN-TWO'])[w]),
    i::bit(8)::varbit, w::bit(8)::varbit, 'a', (array['x', 'y'])[w]::"char", i::money, (w * 1000)::money, i::oid, (w * 100000)::oid, 's', (array['m', 'l'])[w]::shop.size
from generate_series(1, 30) i, (select __W__ as w) x;
insert into shop.filtered
select i, i <= 20, case when i <= 20 then i else w - 1 end, case when i <= 20 then i::text else (array['SECRET-ONE', 'HIDDEN-TWO'])[w] end,
    case when i <= 20 then date '2025-01-01' + i else (array['infinity', '4713-01-01 BC'])[w]::date end,
    case when i <= 20 then jsonb_build_object('n', i) else (array['"SECRET-ONE"', '[]'])[w]::jsonb end, array[i, case when i <= 20 then 1 else w end]
from generate_series(1, 20 + 30 * __W__) i, (select __W__ as w) x;
insert into vault.ledger select i, 1 + i % 30, w * i, (array['SECRET-ONE', 'HIDDEN-TWO'])[w] from generate_series(1, 50 * __W__) i, (select __W__ as w) x;
refresh materialized view vault.ledger_sum;
analyze;
