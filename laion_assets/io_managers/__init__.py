"""Typed IO managers, one an artefact."""
