"""Everything that is derived from the runs: tables, plots, summary, page."""
