"""Forges, where issues and pull requests live: `base` is the seam, `github` a client, `fake` a stand-in server."""
