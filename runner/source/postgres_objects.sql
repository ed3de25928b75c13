-- Each statement: kind, schema, table, name, what it is made of, owner, rights.
-- OWNER, RIGHTS, MINE, LOOSE and IN_TABLE are replaced by postgres_objects.py.

SELECT 'schema', n.nspname, NULL, NULL, '', OWNER(n.nspowner), RIGHTS(n.nspacl, n, n.nspowner)
FROM pg_namespace n WHERE MINE(pg_namespace, n);

-- Of a view's options, pg_dump writes the check behind all others.
SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN
         'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       n.nspname, c.relname, NULL,
       concat_ws('|', c.relkind, c.relpersistence, pg_get_expr(c.relpartbound, c.oid),
         CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
         (SELECT string_agg(o, ',' ORDER BY o LIKE 'check_option=%', n)
          FROM unnest(c.reloptions) WITH ORDINALITY r(o, n)), c.relrowsecurity, c.relforcerowsecurity,
         c.relreplident,
         (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
          FROM pg_inherits i WHERE i.inhrelid = c.oid),
         (SELECT string_agg(concat_ws(' ', quote_ident(a.attname),
              format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
              (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation),
              pg_get_expr(e.adbin, e.adrelid)), ', ' ORDER BY a.attname COLLATE "C")
          FROM pg_attribute a
          LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'S'),
         (SELECT concat_ws(',', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax,
              s.seqmin, s.seqcache, s.seqcycle)
          FROM pg_sequence s WHERE s.seqrelid = c.oid)),
       OWNER(c.relowner),
       concat_ws(';',
         CASE c.relkind WHEN 'S' THEN RIGHTS(c.relacl, s, c.relowner)
                        ELSE RIGHTS(c.relacl, r, c.relowner) END,
         (SELECT string_agg(concat(QUOTED(a.attname), ':', RIGHTS(a.attacl, c, c.relowner)), ';'
                            ORDER BY a.attname COLLATE "C")
          FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  AND MINE(pg_class, c);

-- As an object of its own: snapshots of before have none to compare it with.
SELECT 'text of', n.nspname, c.relname, NULL, pg_get_viewdef(c.oid), NULL, NULL
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND MINE(pg_class, c);

SELECT 'comment on', n.nspname, c.relname,
       (SELECT a.attname FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid <> 0),
       d.description, NULL, NULL
FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  AND MINE(pg_class, c);

SELECT 'comment on function', n.nspname, NULL,
       concat(p.proname, '(', pg_get_function_identity_arguments(p.oid), ')'),
       d.description, NULL, NULL
FROM pg_description d JOIN pg_proc p ON p.oid = d.objoid AND d.classoid = 'pg_proc'::regclass
JOIN pg_namespace n ON n.oid = p.pronamespace WHERE MINE(pg_proc, p);

SELECT 'comment on type', n.nspname, NULL, t.typname, d.description, NULL, NULL
FROM pg_description d JOIN pg_type t ON t.oid = d.objoid AND d.classoid = 'pg_type'::regclass
JOIN pg_namespace n ON n.oid = t.typnamespace WHERE MINE(pg_type, t);

-- Those of a partition that its parent's constraint made have a parent themselves.
SELECT 'constraint', n.nspname, c.relname, k.conname,
       concat(pg_get_constraintdef(k.oid), k.convalidated), NULL, NULL
FROM pg_constraint k IN_TABLE(k.conrelid)
  AND k.contype NOT IN ('n', 't') AND k.conparentid = 0;

-- pg_dump leaves invalid indexes out.
SELECT 'index', n.nspname, c.relname, i.relname, pg_get_indexdef(x.indexrelid), NULL, NULL
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid IN_TABLE(x.indrelid)
  AND NOT i.relispartition AND (x.indisvalid OR i.relkind = 'I')
  AND NOT EXISTS (SELECT FROM pg_constraint k
                  WHERE k.conindid = x.indexrelid AND k.conrelid = x.indrelid);

-- tgparentid: since PostgreSQL 13.
SELECT 'trigger', n.nspname, c.relname, t.tgname,
       concat(pg_get_triggerdef(t.oid), t.tgenabled), NULL, NULL
FROM pg_trigger t IN_TABLE(t.tgrelid)
  AND NOT t.tgisinternal AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0';

SELECT 'rule', n.nspname, c.relname, r.rulename,
       concat(r.ev_type, r.ev_enabled, r.is_instead), NULL, NULL
FROM pg_rewrite r IN_TABLE(r.ev_class) AND r.rulename <> '_RETURN';

SELECT 'policy', n.nspname, c.relname, p.polname,
       concat_ws('|', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
                 pg_get_expr(p.polwithcheck, p.polrelid)),
       NULL, (SELECT string_agg(ROLE(r.r) || '=', ',' ORDER BY ROLE(r.r) COLLATE "C")
              FROM unnest(p.polroles) r(r))
FROM pg_policy p IN_TABLE(p.polrelid);

-- Those of a range type come with it. One that took a search path FROM CURRENT may lack its blanks.
SELECT 'function', n.nspname, NULL,
       concat(p.proname, '(', pg_get_function_identity_arguments(p.oid), ')'),
       concat_ws('|', p.prokind, l.lanname, pg_get_function_result(p.oid), p.provolatile,
                 p.proisstrict, p.prosecdef, p.proleakproof, p.proparallel, p.prosrc, p.probin,
                 (SELECT string_agg(CASE WHEN s LIKE 'search_path=%'
                                         THEN regexp_replace(s, ',\s*', ', ', 'g') ELSE s END,
                                    ',' ORDER BY n)
                  FROM unnest(p.proconfig) WITH ORDINALITY c(s, n))),
       OWNER(p.proowner), RIGHTS(p.proacl, f, p.proowner)
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE MINE(pg_proc, p) AND NOT EXISTS (
  SELECT FROM pg_depend i
  WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i');

-- The text of a domain's default is that of the search path under which it was made.
SELECT 'type', n.nspname, NULL, t.typname,
       concat_ws('|', t.typtype, t.typlen, t.typcategory, t.typnotnull,
         coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault),
         NULLIF(t.typbasetype, 0)::regtype, t.typtypmod,
         (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
          FROM pg_enum e WHERE e.enumtypid = t.oid),
         (SELECT r.rngsubtype::regtype::text FROM pg_range r WHERE r.rngtypid = t.oid),
         (SELECT string_agg(concat(quote_ident(a.attname), ' ',
                                   format_type(a.atttypid, a.atttypmod)), ',' ORDER BY a.attnum)
          FROM pg_attribute a
          WHERE a.attrelid = t.typrelid AND NOT a.attisdropped AND a.attnum > 0),
         (SELECT string_agg(concat(k.conname, ' ', pg_get_constraintdef(k.oid)), ','
                            ORDER BY k.conname COLLATE "C")
          FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype <> 'n')),
       OWNER(t.typowner), RIGHTS(t.typacl, T, t.typowner)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE (t.typrelid = 0 OR c.relkind = 'c') AND t.typtype <> 'm' AND MINE(pg_type, t)
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid);

SELECT 'statistics', n.nspname, NULL, s.stxname, pg_get_statisticsobjdef(s.oid),
       OWNER(s.stxowner), NULL
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE MINE(pg_statistic_ext, s);

SELECT 'collation', n.nspname, NULL, l.collname, l.collprovider, OWNER(l.collowner), NULL
FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
WHERE MINE(pg_collation, l);

-- One without a function was only named by another as its counterpart; pg_dump leaves it out.
SELECT 'operator', n.nspname, NULL,
       concat(o.oprname, '(', o.oprleft::regtype, ',', o.oprright::regtype, ')'), o.oprcode,
       OWNER(o.oprowner), NULL
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE MINE(pg_operator, o) AND o.oprcode <> 0;

SELECT 'operator class', n.nspname, NULL, concat(m.amname, ' ', o.opcname),
       o.opcintype::regtype, OWNER(o.opcowner), NULL
FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
JOIN pg_namespace n ON n.oid = o.opcnamespace
WHERE MINE(pg_opclass, o);

SELECT 'operator family', n.nspname, NULL, concat(m.amname, ' ', f.opfname), '',
       OWNER(f.opfowner), NULL
FROM pg_opfamily f JOIN pg_am m ON m.oid = f.opfmethod
JOIN pg_namespace n ON n.oid = f.opfnamespace
WHERE MINE(pg_opfamily, f);

SELECT 'conversion', n.nspname, NULL, c.conname, concat(c.conproc, c.condefault),
       OWNER(c.conowner), NULL
FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
WHERE MINE(pg_conversion, c);

SELECT 'text search configuration', n.nspname, NULL, t.cfgname, '', OWNER(t.cfgowner), NULL
FROM pg_ts_config t JOIN pg_namespace n ON n.oid = t.cfgnamespace
WHERE MINE(pg_ts_config, t);

SELECT 'text search dictionary', n.nspname, NULL, t.dictname, t.dictinitoption,
       OWNER(t.dictowner), NULL
FROM pg_ts_dict t JOIN pg_namespace n ON n.oid = t.dictnamespace
WHERE MINE(pg_ts_dict, t);

SELECT 'cast', NULL, NULL, concat(k.castsource::regtype, ' as ', k.casttarget::regtype),
       concat(k.castcontext, k.castmethod), NULL, NULL
FROM pg_cast k WHERE LOOSE(pg_cast, k);

SELECT 'event trigger', NULL, NULL, e.evtname,
       concat_ws('|', e.evtevent, e.evtenabled, e.evtfoid::regproc,
                 array_to_string(e.evttags, ',')),
       OWNER(e.evtowner), NULL
FROM pg_event_trigger e WHERE LOOSE(pg_event_trigger, e);

SELECT 'publication', NULL, NULL, p.pubname,
       concat_ws('|', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
         (SELECT string_agg(concat(t.schemaname, '.', t.tablename), ','
                            ORDER BY t.schemaname COLLATE "C", t.tablename COLLATE "C")
          FROM pg_publication_tables t
          WHERE t.pubname = p.pubname AND NOT p.puballtables)),
       OWNER(p.pubowner), NULL
FROM pg_publication p;

SELECT 'foreign server', NULL, NULL, s.srvname, w.fdwname, OWNER(s.srvowner),
       RIGHTS(s.srvacl, S, s.srvowner)
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
WHERE LOOSE(pg_foreign_server, s);

-- Not its options: most may not read them.
SELECT 'user mapping', NULL, NULL, concat(m.srvname, ' for ', ROLE(m.umuser)), '', NULL,
       ROLE(m.umuser) || '='
FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
WHERE LOOSE(pg_foreign_server, s);

SELECT 'default privileges', n.nspname, NULL,
       concat(pg_get_userbyid(a.defaclrole), ' ', a.defaclobjtype), '', OWNER(a.defaclrole),
       RIGHTS(a.defaclacl, r, a.defaclrole)
FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace;
