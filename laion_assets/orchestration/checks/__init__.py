"""The asset checks of every stage."""
