"""The append-only, durable, hash-chained log of events: the truth."""
