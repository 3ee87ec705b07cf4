"""The engine: every room imports only rooms above it in CONTRIBUTING's map of the code. What users add to lies beside it."""
