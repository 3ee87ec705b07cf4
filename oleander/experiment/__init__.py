"""One run, from preparation to its records, and studies of many: engine, rounds, resuming."""
