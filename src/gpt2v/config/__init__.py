"""Configurations: pydantic models that are frozen, strict and refuse unknown keys, without torch.

`base` has the common base class. `pictures`, `grids`, `scenes` and `data` describe data, `models`
describes models. `training` and `measuring` combine these into one class for each command. `load`
reads configurations from YAML and the command line. `effect` refuses options without effect.
"""
