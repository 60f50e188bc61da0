import unittest

from paging import page, page_count, page_of


class PageCount(unittest.TestCase):
    def test_full_pages(self):
        self.assertEqual(page_count(20, 10), 2)

    def test_nothing(self):
        self.assertEqual(page_count(0, 10), 0)

    def test_no_room(self):
        with self.assertRaises(ValueError):
            page_count(5, 0)

    def test_partly_filled_page(self):
        self.assertEqual(page_count(21, 10), 3)


class Pages(unittest.TestCase):
    def test_last_page_holds_the_rest(self):
        self.assertEqual(page("abcdefg", 3, 3), "g")

    def test_page_of_an_item(self):
        self.assertEqual([page_of(9, 10), page_of(10, 10)], [1, 2])
