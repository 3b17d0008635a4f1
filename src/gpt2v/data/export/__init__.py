"""Export: samples as files for other tools.

Begin reading at `run`, which makes an export. `plan` says which samples are in it, in parts and
shards. `shards` writes one shard with its receipt: a piece of the job that `execute` does in one or
many processes. `files` knows which files in the folder are the export's. `card` writes the README.
`formats` is the registry of formats: a new format is one new file and its entry there.

A shard is a pure function of (configuration, shard number). Its bytes do not depend on the process
that writes it, nor on how often the export was stopped.
"""
