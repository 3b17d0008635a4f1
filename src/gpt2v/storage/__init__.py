"""Files and folders on disk: written whole or not at all, checked, and owned by one process.

`disk` syncs, moves and removes as each operating system allows it.
`files` and `folders` write so that readers see all of something or nothing of it. `manifest` checks
files against their checksums. `ownership` lets one process at a time work in a folder. `replacing`
says which folder may be replaced, and keeps it until its successor is finished. `cache` opens what
is computed once, or makes it. `names` has the hidden names that they use, by which a process knows
what another one, which was killed, has left.
"""
