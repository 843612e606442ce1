"""Figures: drawings of cells and networks, plots of runs, pages."""
