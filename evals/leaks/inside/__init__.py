"""What runs inside a sandbox to find leaks: standard library and Python 3.6 only, because it runs in any image.

`evals.leaks.checkout` hands these modules over as text, `main` last. Left out: what a finding means to a reader.
"""
