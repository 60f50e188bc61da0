"""What is kept and for how long, and copies of it: pruning, backup, restore.

docs/github-bot.md ("Keep it running") says how it is used.
"""
