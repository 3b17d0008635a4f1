"""Named benchmark suites with versions: the YAML files in this folder."""
