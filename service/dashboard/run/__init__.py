"""The page of one run, live: what was thought, called, answered and changed, what it cost, and what was shown by it.

A reader of the run's log and repository; nothing here writes to a run but a cache of diffs beside it. Left out: the
frame of a page and who may look (`service.dashboard`), and what programs ask (`service.api`).
"""
