"""Invoices: lines, what is taken off, tax, and what is to be paid."""

from __future__ import annotations

from dataclasses import dataclass, field

from till import money

TAX = 190  # thousandths


@dataclass(frozen=True)
class Line:
    """So many of one thing. A negative count is something that was given back."""

    name: str
    count: int
    price: str  # as it was typed in, for one piece

    @property
    def cents(self) -> int:
        return self.count * money.parse(self.price)


@dataclass
class Invoice:
    """Lines under a number; prices hold the tax already."""

    number: str
    lines: list[Line] = field(default_factory=list)
    discount: int = 0  # thousandths of the sum

    @property
    def sum(self) -> int:
        return sum(line.cents for line in self.lines)

    @property
    def total(self) -> int:
        """Cents to be paid: the sum less the discount."""
        return self.sum - money.share(self.sum, self.discount)

    @property
    def tax(self) -> int:
        """How much of the total is tax."""
        return self.total - _net(self.total)

    @property
    def total_text(self) -> str:
        return money.show(self.total)

    def text(self) -> str:
        """The invoice as it is printed."""
        rows = [(f"{line.count} x {line.name}", money.show(line.cents)) for line in self.lines]
        if self.discount:
            rows.append(("discount", money.show(self.total - self.sum)))
        rows += [("total", self.total_text), ("of it tax", money.show(self.tax))]
        return "\n".join([f"Invoice {self.number}", *(f"{name:<24}{amount:>12}" for name, amount in rows)])


def _net(total: int) -> int:
    """The part of an amount that is no tax, to the nearest cent."""
    net = (2 * abs(total) * 1000 + 1000 + TAX) // (2 * (1000 + TAX))
    return -net if total < 0 else net
