"""Files and folders on disk: written whole or not at all, checked, and owned by one process.

`files` and `folders` write so that readers see all of something or nothing of it. `manifest` checks
files against their checksums. `ownership` lets one process at a time work in a folder. `cache`
opens what is computed once, or makes it.

What is not finished has a name `.NAME.*.unfinished` beside its place, and what is being replaced is
`.NAME.replaced` until its successor is finished; so after a process was killed, the next one knows
what it finds.
"""
