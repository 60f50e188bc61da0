"""Tables as text."""

from tabula.formats import to_csv, to_tsv

__all__ = ["to_csv", "to_tsv"]
