"""From an instance, its environment and a patch to the official files and a verdict, in a fresh sandbox."""
