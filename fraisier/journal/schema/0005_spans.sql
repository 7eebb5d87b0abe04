-- Where the rows of a deployment stand in the log. It takes the place of an index, and is filled from the log's columns.
create table spans (
  deployment_id text not null,
  first_seq integer not null,
  last_seq integer not null,
  primary key (deployment_id, first_seq)
) without rowid;
drop index journal_deployment;
