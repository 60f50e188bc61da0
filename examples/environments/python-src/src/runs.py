"""Runs of equal items."""

from itertools import groupby


def runs(items):
    return [(key, len(list(group))) for key, group in groupby(items)]
