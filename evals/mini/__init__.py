"""The bundled mini set: ten small tasks of ours, their repositories, and a scripted model that works on them."""

from evals.mini.dataset import mini_dataset
from evals.mini.repositories import bundled_repository
from evals.mini.script import mini_script

__all__ = ["bundled_repository", "mini_dataset", "mini_script"]
