-- The last sign of life of a lease's holder, who took the lease away by hand, and the freeze that a person put on it.
alter table leases add column renewed_us integer not null default 0;
alter table leases add column broken_by text not null default '';
alter table leases add column frozen_by text not null default '';
alter table leases add column frozen_message text not null default '';
alter table leases add column frozen_us integer not null default 0;
alter table leases add column frozen_until_us integer not null default 0;
