"""Named, versioned benchmark suites: the YAML files of this folder."""
