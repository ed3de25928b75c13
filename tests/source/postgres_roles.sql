-- The roles of postgres_hard.sql, made wherever they are not there yet.
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['Hard Owner-ß', 'hard_reader', 'hard -d writer', 'hard group']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE "Hard Owner-ß" CREATEDB;
ALTER ROLE hard_reader LOGIN PASSWORD 'it''s secret' VALID UNTIL '2040-01-01' CONNECTION LIMIT 5;
ALTER ROLE "hard -d writer" BYPASSRLS;
ALTER ROLE hard_reader SET statement_timeout = '3s';
COMMENT ON ROLE hard_reader IS 'reads; "only"';
GRANT "hard group", pg_read_all_data TO hard_reader WITH ADMIN OPTION;
GRANT hard_reader TO "hard -d writer";
