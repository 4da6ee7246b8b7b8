"""The functions of the public API. Import them from `laion_assets`; docs/api.md describes them."""
