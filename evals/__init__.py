"""Evaluation runs: data sets, predictions, grading, reports. Stands above `agent`, beside `service`."""
