-- The few types of rows that carry numbers are found by time without a walk over the whole log.
create index journal_tally on journal (type, at)
where type in ('health.failed', 'health.passed', 'hook.failed', 'lease.refused', 'provider.unavailable', 'rollback.failed', 'rollback.succeeded', 'step.failed');
