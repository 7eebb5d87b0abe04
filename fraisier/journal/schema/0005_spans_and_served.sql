-- Where the rows of a deployment stand in the log. It takes the place of an index, and is filled from the log's columns.
create table spans (
  deployment_id text not null,
  first_seq integer not null,
  last_seq integer not null,
  primary key (deployment_id, first_seq)
) without rowid;
drop index journal_deployment;

-- Whether a target was ever healthy. Where expired bodies forbid a new fold, having a good release stands for it.
alter table placements add column served integer not null default 0;
update placements set served = good_release <> '';
