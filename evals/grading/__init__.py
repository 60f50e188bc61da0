"""From a test log to the verdict and the per-test lists that the official harness gives, in both of its semantics."""
