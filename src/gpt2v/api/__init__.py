"""The Python front door: what a command does, as functions for notebooks and scripts."""
