"""Evaluation runs: attempts at instances by an agent, graded as they end, and what is kept of them."""
