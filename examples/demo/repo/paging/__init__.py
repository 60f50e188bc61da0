"""Cut a sequence into pages."""

from paging.pages import page, page_count, page_of

__all__ = ["page", "page_count", "page_of"]
