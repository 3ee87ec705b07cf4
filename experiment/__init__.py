"""An experiment from its settings to its records: configuration, preparation, engine, plots and reports."""
