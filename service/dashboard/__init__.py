"""The dashboard: pages for people, rendered here and served without anything from elsewhere.

Text of repositories, models and people is escaped everywhere and does nothing; a page's policy allows our own files
alone. `joining.join` puts it into the app. Left out: what programs ask (`service.api`), and what a run is.
docs/decisions/0037-dashboard.md says why it is as it is.
"""
