"""The one training loop: optimizer groups, Muon, schedules, metrics. It knows no task."""
