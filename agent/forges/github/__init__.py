"""GitHub, github.com or an Enterprise server: `forge.open_github` gives a `Forge`."""
