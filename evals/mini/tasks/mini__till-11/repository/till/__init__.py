"""Invoices and payments of a small shop."""
