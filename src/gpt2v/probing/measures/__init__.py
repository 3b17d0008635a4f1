"""Measures of a probe: what else is asked of the states at a site. One class is one measure."""
