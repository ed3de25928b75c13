-- What belongs to a database but is not inside it; what a session starts with must not change
-- what is read of the content. Run by `psql -v ON_ERROR_STOP=1` as a superuser.
SELECT format('ALTER DATABASE %I SET %s', current_database(), setting) FROM unnest(ARRAY[
    'DateStyle = ''SQL, DMY''', 'IntervalStyle = sql_standard', 'extra_float_digits = -5',
    'bytea_output = escape', 'TimeZone = ''America/St_Johns''', 'statement_timeout = ''20ms''',
    'lock_timeout = ''20ms''', 'search_path = "My App", "$user", public', 'row_security = off',
    'default_transaction_isolation = serializable', 'default_transaction_read_only = on',
    'xmloption = document', 'hard.custom = ''it''''s'''
]) AS setting \gexec
SELECT format('ALTER DATABASE %I OWNER TO %I', current_database(), 'Hard Owner-ß') \gexec
SELECT format('ALTER DATABASE %I CONNECTION LIMIT 90', current_database()) \gexec
SELECT format('COMMENT ON DATABASE %I IS %L', current_database(), 'It''s "the" database') \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM public', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO hard_reader', current_database()) \gexec
SELECT format('ALTER ROLE hard_reader IN DATABASE %I SET work_mem = ''5MB''',
              current_database()) \gexec
