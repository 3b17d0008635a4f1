"""Language without grids: plain text, minimal pairs, tasks of lm-evaluation-harness."""
