"""The training loop for all tasks: optimizer groups, Muon, schedules, metrics, checkpoints."""
