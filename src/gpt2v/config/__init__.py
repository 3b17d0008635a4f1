"""Configurations, as pydantic models: frozen, strict, without unknown keys. Nothing here is torch.

`base` has what all share; `pictures`, `grids` and `data` say what is drawn, `models` and `scenes`
what is built, `training` and `measuring` put these together, one class for each command. `load`
reads them from YAML and the command line.
"""
