"""The five assets, a module a stage."""
