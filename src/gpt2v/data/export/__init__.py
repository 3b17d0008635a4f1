"""Export: samples as files for other tools.

`run` makes an export and is where to begin reading; `plan` says which samples are in it, in parts
and shards; `shards` writes one shard with its
receipt, `executors` has shards written by one process or many; `card` writes the README. `formats`
is the registry of formats, each one file: a new one is one more, and its name there.

A shard is a pure function of (configuration, shard number): whoever writes it, and however often
the export was stopped, the bytes are the same.
"""
