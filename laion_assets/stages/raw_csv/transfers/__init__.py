"""Transfers of many files: in parallel, conditional, resumed, within a disk budget."""
