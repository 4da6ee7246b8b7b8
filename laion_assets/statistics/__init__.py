"""Counts over the dataset and over its pictures, summarised, plotted and reported."""
