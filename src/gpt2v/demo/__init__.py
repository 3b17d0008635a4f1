"""The demo trains and measures a small GPT-2v and writes a report. Its presets are YAML files."""
