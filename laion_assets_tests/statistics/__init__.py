"""Tests of the metadata half."""
