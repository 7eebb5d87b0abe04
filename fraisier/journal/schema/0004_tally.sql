-- The few types of rows that carry numbers are found by time without a walk over the whole log. They come early in the
-- alphabet, what most rows are (steps, their output, targets) comes after them: one comparison is all that such a row costs.
create index journal_tally on journal (type, at) where type < 'step.g';
