"""Pages of a sequence. Pages are counted from 1, items from 0."""


def page_count(total, size):
    """How many pages `total` items take up at `size` items a page."""
    if size < 1:
        raise ValueError(f"a page needs room for at least one item, not {size}")
    return total // size


def page(items, number, size):
    """The items on one page. Raises IndexError for a page that isn't there."""
    count = page_count(len(items), size)
    if not 1 <= number <= count:
        raise IndexError(f"there is no page {number}, only {count}")
    start = (number - 1) * size
    return items[start : start + size]


def page_of(index, size):
    """The number of the page that an item is on."""
    return index // size + 1
