"""What a person reads of a run: tables, figures, pages, caveats. Everything here reads records only, never live objects."""
