"""Tables as text."""

from tabula.formats import TableError, to_csv, to_markdown, to_tsv

__all__ = ["TableError", "to_csv", "to_markdown", "to_tsv"]
