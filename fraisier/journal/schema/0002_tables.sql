-- What the fold makes of the log; all of it can be rebuilt, but positions and dead letters.
create table deployments (
  id text primary key,
  fraise text not null,
  environment text not null,
  state text not null,
  requested_us integer not null,
  first_seq integer not null,
  body blob not null
) without rowid;
create index deployments_newest on deployments (first_seq);
create index deployments_place on deployments (fraise, environment, first_seq);
create index deployments_state on deployments (state, first_seq);

create table plans (deployment_id text primary key, body blob not null);

create table deployment_targets (
  deployment_id text not null,
  name text not null,
  wave integer not null,
  action text not null,
  outcome text not null,
  reason text not null,
  error text not null,
  release text not null,
  version text not null,
  digest text not null,
  previous_release text not null,
  previous_version text not null,
  begun integer not null,
  undone integer not null,
  started_us integer not null,
  finished_us integer not null,
  primary key (deployment_id, name)
) without rowid;

-- Ordered by step first: the targets of a wave are at about the same step, so one commit changes few pages.
create table deployment_steps (
  deployment_id text not null,
  step text not null,
  target text not null,
  body blob not null,
  primary key (deployment_id, step, target)
) without rowid;

create table placements (
  fraise text not null,
  environment text not null,
  target text not null,
  release text not null,
  version text not null,
  digest text not null,
  good_release text not null,
  good_version text not null,
  good_digest text not null,
  health text not null,
  health_us integer not null,
  since_us integer not null,
  deployment_id text not null,
  primary key (fraise, environment, target)
) without rowid;

create table releases (
  fraise text not null,
  environment text not null,
  target text not null,
  release text not null,
  version text not null,
  digest text not null,
  status text not null,
  good integer not null,
  bad integer not null,
  previous text not null,
  deployment_id text not null,
  created_us integer not null,
  seq integer not null,
  primary key (fraise, environment, target, release)
) without rowid;

create table leases (
  fraise text not null,
  environment text not null,
  epoch integer not null,
  held integer not null,
  holder blob not null,
  deployment_id text not null,
  acquired_us integer not null,
  expires_us integer not null,
  primary key (fraise, environment)
) without rowid;

create table positions (subscriber text primary key, seq integer not null) without rowid;

create table dead_letters (
  subscriber text not null,
  seq integer not null,
  at_us integer not null,
  error text not null,
  primary key (subscriber, seq)
) without rowid;
