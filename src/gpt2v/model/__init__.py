"""GPT-2v: vision tower, vision-token sources, projector, GPT-2; packed passes, scoring, files."""
