"""One-shot neural architecture search with a Self-Evaluated Template Network (SETN, ICCV 2019)."""
