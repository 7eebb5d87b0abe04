-- The log itself. Every column but the hashes repeats something of the body, so that it can be searched;
-- `body` becomes NULL when retention expires it, its hash stays.
create table meta (key text primary key, value text not null) without rowid;

create table journal (
  seq integer primary key,
  type text not null,
  deployment_id text not null,
  fraise text not null,
  environment text not null,
  target text not null,
  at integer not null,
  body blob,
  body_hash blob not null,
  hash blob not null
);

create index journal_deployment on journal (deployment_id) where deployment_id <> '';

create trigger journal_insert before insert on journal
when new.seq is not coalesce((select seq + 1 from journal order by seq desc limit 1), 1)
begin select raise(abort, 'the journal is append-only: a row goes to its end'); end;

create trigger journal_update before update on journal
when not (
  new.body is null and new.seq is old.seq and new.type is old.type and new.deployment_id is old.deployment_id
  and new.fraise is old.fraise and new.environment is old.environment and new.target is old.target
  and new.at is old.at and new.body_hash is old.body_hash and new.hash is old.hash
)
begin select raise(abort, 'the journal is append-only: no row may change'); end;

create trigger journal_delete before delete on journal
begin select raise(abort, 'the journal is append-only: no row may go'); end;
