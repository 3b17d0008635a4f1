"""Everything in one go, small, with a report; its presets are the YAML files of `presets`."""
