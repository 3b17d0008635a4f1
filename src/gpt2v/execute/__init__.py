"""Work in pieces that can be stopped and continued, by one process or by many.

A `Job` (`job`) has pieces that any process can do, in any order. `executors` do them in this
process, in several processes, or with Ray. The results are files: a piece that is done is not done
again.
"""
