"""Payments from the bank, and which invoices they leave open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from till import money
from till.invoice import Invoice


@dataclass(frozen=True)
class Payment:
    day: str
    invoice: str
    cents: int


def read(lines: Iterable[str]) -> list[Payment]:
    """Payments of lines `DATE;INVOICE;AMOUNT`; ValueError names a line that is none."""
    payments = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            day, invoice, amount = line.strip().split(";")
            payments.append(Payment(day, invoice, money.parse(amount)))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return payments


def open_amounts(invoices: Iterable[Invoice], payments: Iterable[Payment]) -> dict[str, int]:
    """Number -> cents that are still to be paid (below zero: paid too much), for those where that isn't nothing."""
    owed = {invoice.number: invoice.total for invoice in invoices}
    for payment in payments:
        owed[payment.invoice] = owed.get(payment.invoice, 0) - payment.cents
    return {number: cents for number, cents in owed.items() if cents}
