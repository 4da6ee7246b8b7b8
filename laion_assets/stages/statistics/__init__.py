"""`dataset_statistics` and `image_statistics`: counts, plots and a report."""
