"""The engine: every room imports only rooms above it in README's file map. What users add to lies beside it."""
