"""The study with true accuracies, on the space of NAS-Bench-201."""
