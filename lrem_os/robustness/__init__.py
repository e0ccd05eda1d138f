"""A robustness study from files to a report: where what is tried meets models and cluster."""
