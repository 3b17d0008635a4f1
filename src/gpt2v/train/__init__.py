"""The one training loop: optimizer groups, Muon, schedules, checkpoints. It knows no task."""
