"""Real repositories and environments for replaying what a real model did. Nothing of them is kept in the project."""
