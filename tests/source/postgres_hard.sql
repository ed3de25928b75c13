-- Everything that pg_dump finds hard, in one database: run by `psql -v ON_ERROR_STOP=1` as a
-- superuser, in an empty database, once the roles of postgres_roles.sql are there.
SET client_min_messages = error;
SET check_function_bodies = off;
SELECT current_setting('server_version_num')::int >= 180000 AS v18,
       EXISTS (SELECT FROM pg_config WHERE setting LIKE '%with-icu%') AS icu,
       EXISTS (SELECT FROM pg_config WHERE setting LIKE '%with-libxml%') AS xml \gset

-- Names -------------------------------------------------------------------------------------
CREATE SCHEMA "My App" AUTHORIZATION "Hard Owner-ß";
CREATE SCHEMA "it's -d evil=1; --" AUTHORIZATION "Hard Owner-ß";
CREATE SCHEMA "a.b";
CREATE SCHEMA a;
CREATE SCHEMA extensions;
COMMENT ON SCHEMA "My App" IS E'It''s the "app"\nwith a \\ and a ; and $$';

CREATE EXTENSION citext WITH SCHEMA extensions;
CREATE EXTENSION hstore WITH SCHEMA "My App";
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION file_fdw;
REVOKE EXECUTE ON FUNCTION similarity(text, text) FROM public;

SET ROLE "Hard Owner-ß";
CREATE TABLE "My App"."Players & ""Friends"" - 100%" (
    "Id" bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 7) PRIMARY KEY,
    "full name" text NOT NULL,
    "from" timestamptz DEFAULT '2026-11-20 02:15:00+01',
    "-d evil=1" text,
    "$col" int GENERATED ALWAYS AS (length("full name")) STORED
);
INSERT INTO "My App"."Players & ""Friends"" - 100%" ("full name", "-d evil=1")
SELECT 'player ' || n, CASE WHEN n % 3 > 0 THEN md5(n::text) END FROM generate_series(1, 400) AS n;
CREATE TABLE "it's -d evil=1; --"."new
line" ("tab	name" text);
INSERT INTO "it's -d evil=1; --"."new
line" VALUES ('\.'), (E'\\.\n\\N'), (NULL), (''), (E'\t\r\n\b\f\v');
RESET ROLE;
-- These three have the same name when a dot joins schema and table.
CREATE TABLE "a.b".c (v int);
CREATE TABLE a."b.c" (v int);
CREATE TABLE a."b"".""c" (v int);
INSERT INTO "a.b".c VALUES (1);
INSERT INTO a."b.c" VALUES (2), (2);
INSERT INTO a."b"".""c" VALUES (3), (3), (3);

-- Types -------------------------------------------------------------------------------------
CREATE TYPE mood AS ENUM ('so-so', 'Bad', 'it''s fine');
ALTER TYPE mood ADD VALUE 'great' BEFORE 'Bad';
CREATE DOMAIN email AS extensions.citext CHECK (VALUE ~ '@') NOT NULL;
CREATE DOMAIN price AS numeric(12, 2) DEFAULT 0 CONSTRAINT "not negative" CHECK (VALUE >= 0);
CREATE DOMAIN prices AS price[];
CREATE TYPE "Point 3D" AS (x float8, "Y" float8, label text, tags text[]);
CREATE DOMAIN ground AS "Point 3D" CHECK (VALUE IS NULL OR (VALUE).x IS NOT NULL);
CREATE FUNCTION float8_distance(float8, float8) RETURNS float8
    LANGUAGE sql IMMUTABLE RETURN $1 - $2;
CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8_distance);
CREATE TABLE kinds (
    id int PRIMARY KEY,
    m mood, ms mood[], e email, p price, ps prices, pt "Point 3D", pts "Point 3D"[], g ground,
    f floats, fs floats[], fm floats_multirange, h "My App".hstore
);
INSERT INTO kinds VALUES
    (1, 'great', '{great,"so-so"}', 'A@b', 12.50, '{1,2.25,NULL}',
     '(1.5,-0,"a ""b"", c","{x,NULL,""y z""}")', '{"(1,2,,)",NULL}', '(1,2,"",{})',
     '[1,2.5)', '{empty,"(,)"}', '{[1,2),[5,)}', '"k y"=>"v\"", n=>NULL'),
    (2, NULL, '{}', 'a@B', 0, '[2:3]={7,8}', NULL, '[0:0]={"(0,0,\\\\,{})"}', NULL,
     'empty', NULL, '{}', '');
CREATE TABLE built_in (
    id serial PRIMARY KEY,
    r real, d double precision, n numeric, b bytea, t text, c char(5), "char" "char", o oid,
    ts timestamp, tz timestamptz, dt date, iv interval, mo money, j json, jb jsonb,
    bits bit varying, ip inet, mac macaddr8, u uuid, v tsvector, q tsquery, pg polygon, path path,
    class regclass, proc regprocedure, ty regtype, role regrole, lsn pg_lsn, ints int[][]
);
INSERT INTO built_in VALUES
    (DEFAULT, 'NaN', '-Infinity', 'NaN', '\x00ff5c27', E'\\', 'ab', E'\\001', 4294967295,
     'infinity', '-infinity', '4713-01-01 BC', '-1 mon +2 days -00:00:00.000001', '-12.34',
     '{"a": 1, "a" :2}', '{"b": [1.0, null, "\u00e9"]}', B'0101',
     '::ffff:1.2.3.4/128', '08:00:2b:01:02:03:04:05', '00000000-0000-0000-0000-000000000000',
     'a:1A fat:2B', 'fat & (rat | !cat:*)', '((0,0),(1,1e-300),(2,0))', '[(0,0),(1,1)]',
     '"My App"."Players & ""Friends"" - 100%"', 'public.float8_distance(float8,float8)',
     'floats[]', '"Hard Owner-ß"', '16/B374D848', '[0:1][5:6]={{1,2},{3,4}}'),
    (DEFAULT, 1e-45, 0.1::float8 + 0.2, 'Infinity', '', '', '', '', 0, '0001-01-01 BC',
     '294276-12-31 23:59:59.999999+00', 'infinity', '178000000 years', '92233720368547758.07',
     'null', '"\\"', '', '10/8', '00:00:00:00:00:00:00:00', gen_random_uuid(), '', '',
     '((1,1))', '((0,0))', '1259', '0', 'int', 'hard_reader', '0/0', '{}'),
    (DEFAULT, '-0', 4.9406564584124654e-324, 1e-1000, decode(repeat('00ff', 5000), 'hex'),
     repeat('long and compressible ', 5000), 'é', 'z', 1, '2026-02-28', now(),
     '2026-11-20', '1.5 seconds', 0, '[]', '{}', B'1', 'fe80::1', NULL, NULL, NULL, NULL,
     NULL, NULL, 'pg_class', 'pg_catalog.now()', '"My App".hstore', 'pg_monitor', 'F/F', NULL);
\if :xml
    CREATE TABLE documents (x xml);
    INSERT INTO documents VALUES ('<a b="1">&amp;</a>'), ('text and <b/>'), ('');
\endif
CREATE TABLE doubles (v int, w text);
INSERT INTO doubles SELECT 1, 'the same' FROM generate_series(1, 10);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE typed OF "Point 3D" (PRIMARY KEY (x));
INSERT INTO typed VALUES (1, 2, 'three', '{four}');
CREATE UNLOGGED TABLE unlogged (v int);
INSERT INTO unlogged SELECT generate_series(1, 50);

-- Columns -----------------------------------------------------------------------------------
CREATE COLLATION german (provider = libc, locale = 'C.UTF-8');
\if :icu
    CREATE COLLATION numbers (provider = icu, locale = 'en-u-kn-true');
    CREATE COLLATION ignoring_case
        (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE collated (
        n text COLLATE numbers, i text COLLATE ignoring_case UNIQUE, c text COLLATE "C"
    );
    CREATE INDEX ON collated (n, c COLLATE numbers DESC NULLS LAST);
    INSERT INTO collated SELECT 'file' || n, 'Word ' || n, chr(n + 64)
    FROM generate_series(1, 30) AS n;
\endif
CREATE TABLE columns (
    gone_first int,
    id int GENERATED BY DEFAULT AS IDENTITY (MINVALUE -5 START WITH -5 CYCLE MAXVALUE 100000),
    g text COLLATE german,
    gone text,
    stored text COMPRESSION pglz,
    doubled int GENERATED ALWAYS AS (id * 2) STORED,
    CONSTRAINT "above, mostly" CHECK (id > -100) NO INHERIT
) WITH (fillfactor = 70, autovacuum_enabled = off, toast.autovacuum_enabled = off);
INSERT INTO columns (g, stored)
SELECT 'wort ' || n, repeat(md5(n::text), 200) FROM generate_series(1, 60) AS n;
ALTER TABLE columns DROP COLUMN gone, DROP COLUMN gone_first;
ALTER TABLE columns ADD COLUMN late text NOT NULL DEFAULT 'added without a rewrite';
ALTER TABLE columns ALTER g SET STATISTICS 500, ALTER g SET (n_distinct = -0.5),
    ALTER stored SET STORAGE external;
ALTER TABLE columns ADD CONSTRAINT later CHECK (id < 0) NOT VALID;
\if :v18
    ALTER TABLE columns ADD COLUMN computed int GENERATED ALWAYS AS (id + 1) VIRTUAL;
    ALTER TABLE columns ADD CONSTRAINT nn NOT NULL g NOT VALID;
\endif
COMMENT ON COLUMN columns.g IS 'a -- comment /* with */ ''quotes''';
CREATE STATISTICS "It's statistics" (ndistinct, dependencies, mcv) ON g, doubled FROM columns;
CREATE STATISTICS expressions ON lower(g), (id % 7) FROM columns;
ALTER STATISTICS expressions SET STATISTICS 33;
CREATE INDEX "partial, with more" ON columns (lower(g)) INCLUDE (id) WHERE id > 3;
CREATE UNIQUE INDEX by_identity ON columns (id);
ALTER TABLE columns ALTER id SET NOT NULL, REPLICA IDENTITY USING INDEX by_identity;
ALTER TABLE columns CLUSTER ON by_identity;
CREATE INDEX broken ON columns (late);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass;

-- Sequences ---------------------------------------------------------------------------------
CREATE SEQUENCE "down & cycle" AS smallint INCREMENT -3 MINVALUE -100 MAXVALUE 50 CYCLE CACHE 5;
SELECT nextval('"down & cycle"') FROM generate_series(1, 3) \g /dev/null
CREATE SEQUENCE never_asked START 77;
CREATE SEQUENCE far MAXVALUE 9223372036854775807;
SELECT setval('far', 9223372036854775807, true), setval('never_asked', 99, false) \g /dev/null
CREATE TABLE owned (id int DEFAULT nextval('far'), PRIMARY KEY (id) DEFERRABLE);
ALTER TABLE owned ALTER id SET DEFAULT nextval('never_asked');

-- Partitions and inheritance ----------------------------------------------------------------
CREATE TABLE events (at date NOT NULL, region text, id int, note text, PRIMARY KEY (at, region, id))
    PARTITION BY RANGE (at);
CREATE TABLE events_2025 (
    note text, id int NOT NULL, dropped int, region text NOT NULL, at date NOT NULL
);
ALTER TABLE events_2025 DROP COLUMN dropped;
ALTER TABLE events ATTACH PARTITION events_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    PARTITION BY LIST (region);
CREATE TABLE "My App".events_2026_eu PARTITION OF events_2026 FOR VALUES IN ('eu', 'uk')
    PARTITION BY HASH (id);
CREATE TABLE events_2026_eu_0 PARTITION OF "My App".events_2026_eu
    FOR VALUES WITH (MODULUS 2, REMAINDER 0) WITH (fillfactor = 50);
CREATE TABLE events_2026_eu_1 PARTITION OF "My App".events_2026_eu
    FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE events_2026_rest PARTITION OF events_2026 DEFAULT;
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE INDEX ON events (note);
CREATE INDEX only_here ON ONLY events (region);
INSERT INTO events
SELECT '2024-06-01'::date + n, (ARRAY['eu', 'uk', 'us', 'ap'])[n % 4 + 1], n, 'note ' || n
FROM generate_series(1, 900) AS n;
CREATE TABLE moods (m mood, n int) PARTITION BY LIST (m);
CREATE TABLE moods_bad PARTITION OF moods FOR VALUES IN ('Bad', NULL);
INSERT INTO moods VALUES ('Bad', 1), (NULL, 2);
CREATE TABLE parent (id int PRIMARY KEY, v text DEFAULT 'from the parent');
CREATE TABLE other_parent (z int, v text);
CREATE TABLE child (extra int, CHECK (extra > 0)) INHERITS (parent, other_parent);
CREATE TABLE grandchild (v text DEFAULT 'mine') INHERITS (child);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 'c', 3, 4);
INSERT INTO grandchild VALUES (1, 'g', 2, 3);

-- Keys --------------------------------------------------------------------------------------
CREATE TABLE tree (
    id int PRIMARY KEY, up int REFERENCES tree DEFERRABLE INITIALLY DEFERRED, other int
);
CREATE TABLE leaf (id int PRIMARY KEY, tree int NOT NULL REFERENCES tree ON DELETE CASCADE);
ALTER TABLE tree ADD FOREIGN KEY (other) REFERENCES leaf MATCH FULL ON UPDATE SET NULL;
BEGIN;
INSERT INTO tree VALUES (1, 2), (2, 1);
INSERT INTO leaf VALUES (5, 1);
UPDATE tree SET other = 5;
COMMIT;
CREATE TABLE "to partitions" (
    at date, region text, id int, FOREIGN KEY (at, region, id) REFERENCES events
);
INSERT INTO "to partitions" SELECT at, region, id FROM events LIMIT 20;
CREATE TABLE unsound (v int);
INSERT INTO unsound VALUES (4711);
ALTER TABLE unsound ADD FOREIGN KEY (v) REFERENCES leaf NOT VALID;
CREATE TABLE bookings (
    room int, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0)
);
INSERT INTO bookings VALUES (1, '[2026-01-01, 2026-01-02)'), (1, '[2026-01-02,)');

-- Views, rules, materialized views ----------------------------------------------------------
CREATE VIEW "View of Players" WITH (security_barrier) AS
    SELECT "Id", "full name" FROM "My App"."Players & ""Friends"" - 100%" WHERE "Id" > 0
    WITH LOCAL CHECK OPTION;
CREATE VIEW needs_the_key AS SELECT parent.id, v, count(*) AS n FROM parent GROUP BY parent.id;
CREATE MATERIALIZED VIEW first_level AS SELECT id, n * 2 AS twice FROM needs_the_key;
CREATE UNIQUE INDEX ON first_level (id, twice);
CREATE MATERIALIZED VIEW second_level AS SELECT sum(twice) AS total FROM first_level;
CREATE MATERIALIZED VIEW empty_yet AS SELECT * FROM second_level WITH NO DATA;
CREATE RECURSIVE VIEW up_to (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM up_to WHERE n < 5;
CREATE VIEW writable AS SELECT v FROM doubles;
CREATE RULE redirect AS ON INSERT TO writable
    DO INSTEAD INSERT INTO doubles VALUES (NEW.v, 'rule');
CREATE RULE "also; this" AS ON UPDATE TO doubles WHERE NEW.v > 5
    DO ALSO DELETE FROM unlogged WHERE unlogged.v = NEW.v;

-- Code --------------------------------------------------------------------------------------
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SET search_path = "My App", public AS $$
BEGIN
    NEW.note := NEW.note || ' touched';  -- $body$ '; DROP TABLE x; --
    RETURN NEW;
END $$;
CREATE FUNCTION standard_body(n int DEFAULT 5, VARIADIC rest text[] DEFAULT '{}')
    RETURNS TABLE (total bigint) LANGUAGE sql STABLE SECURITY DEFINER COST 7 ROWS 3
    BEGIN ATOMIC SELECT count(*) + n FROM leaf; END;
CREATE PROCEDURE clean(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
CREATE AGGREGATE product(float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1');
CREATE FUNCTION close_to(float8, float8) RETURNS bool
    LANGUAGE sql IMMUTABLE RETURN abs($1 - $2) < 1;
CREATE OPERATOR ~~~ (
    FUNCTION = close_to, LEFTARG = float8, RIGHTARG = float8, COMMUTATOR = ~~~
);
CREATE CAST (mood AS int) WITH INOUT;
CREATE OPERATOR FAMILY family USING btree;
CREATE OPERATOR CLASS by_code FOR TYPE "char" USING btree FAMILY family AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
    FUNCTION 1 btcharcmp("char", "char");
CREATE TEXT SEARCH DICTIONARY english_without_stops (TEMPLATE = snowball, LANGUAGE = english);
CREATE TEXT SEARCH CONFIGURATION ours (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION ours ALTER MAPPING FOR word WITH english_without_stops, simple;
CREATE TRIGGER "before; insert" BEFORE INSERT OR UPDATE OF note ON events FOR EACH ROW
    WHEN (NEW.id > 3) EXECUTE FUNCTION touch();
CREATE TRIGGER always BEFORE INSERT ON events_2025 FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE events_2025 ENABLE ALWAYS TRIGGER always;
CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON leaf DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE leaf DISABLE TRIGGER deferred;
CREATE FUNCTION watch_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_tag = 'CREATE TABLE' THEN
        RAISE EXCEPTION 'no new tables here';
    END IF;
END $$;
CREATE EVENT TRIGGER off ON sql_drop EXECUTE FUNCTION watch_ddl();
ALTER EVENT TRIGGER off DISABLE;

-- Rights ------------------------------------------------------------------------------------
CREATE TABLE secret_rows (tenant text, v int);
INSERT INTO secret_rows VALUES ('hard_reader', 1), ('other', 2);
ALTER TABLE secret_rows OWNER TO "Hard Owner-ß";
ALTER TABLE secret_rows ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret_rows FORCE ROW LEVEL SECURITY;
CREATE POLICY "own rows" ON secret_rows AS RESTRICTIVE FOR SELECT TO hard_reader
    USING (tenant = CURRENT_USER);
CREATE POLICY everyone ON secret_rows USING (v > 0) WITH CHECK (v < 10);
GRANT SELECT (tenant), UPDATE (v) ON secret_rows TO hard_reader WITH GRANT OPTION;
GRANT ALL ON "My App"."Players & ""Friends"" - 100%" TO "hard -d writer" WITH GRANT OPTION;
GRANT USAGE ON SCHEMA "My App" TO "hard -d writer";
SET ROLE "hard -d writer";
GRANT SELECT ON "My App"."Players & ""Friends"" - 100%" TO hard_reader;
RESET ROLE;
REVOKE ALL ON SCHEMA a FROM public;
GRANT USAGE ON SCHEMA "My App", a TO hard_reader;
REVOKE EXECUTE ON FUNCTION touch() FROM public;
GRANT USAGE ON TYPE mood TO hard_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "Hard Owner-ß" IN SCHEMA "My App"
    GRANT SELECT ON TABLES TO hard_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "Hard Owner-ß" REVOKE EXECUTE ON FUNCTIONS FROM public;

-- Elsewhere ---------------------------------------------------------------------------------
CREATE SERVER unreachable FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '192.0.2.1', dbname 'it''s "elsewhere"', connect_timeout '2');
CREATE USER MAPPING FOR "hard -d writer" SERVER unreachable
    OPTIONS (user 'x', password 'far secret');
CREATE FOREIGN TABLE "far table" (id int OPTIONS (column_name 'ID'), v text) SERVER unreachable;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE passwd (line text) SERVER files OPTIONS (filename '/etc/passwd');
CREATE TABLE spread (k int, v text) PARTITION BY LIST (k);
CREATE TABLE spread_here PARTITION OF spread FOR VALUES IN (1);
CREATE FOREIGN TABLE spread_far PARTITION OF spread FOR VALUES IN (2) SERVER unreachable;
INSERT INTO spread VALUES (1, 'here');
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, update');
CREATE PUBLICATION "some; of it" FOR TABLE leaf (id) WHERE (id > 3);
CREATE PUBLICATION schemas FOR TABLES IN SCHEMA "My App" WITH (publish_via_partition_root);

-- Large objects -----------------------------------------------------------------------------
SELECT lo_from_bytea(4711, decode(repeat('00ff10', 1000), 'hex')),
       lo_from_bytea(4712, ''),
       lo_from_bytea(4713, convert_to(repeat('a large object ', 20000), 'UTF8')) \g /dev/null
SELECT lo_put(4712, 5000, '\x01') \g /dev/null
ALTER LARGE OBJECT 4713 OWNER TO "Hard Owner-ß";
GRANT SELECT ON LARGE OBJECT 4711 TO hard_reader;
COMMENT ON LARGE OBJECT 4711 IS 'an avatar';
CREATE TABLE avatars (player int, picture oid);
INSERT INTO avatars VALUES (1, 4711), (2, 4713);

-- Last: from here on no table can be made.
CREATE EVENT TRIGGER watch ON ddl_command_start WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION watch_ddl();
