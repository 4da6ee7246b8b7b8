"""URLs: parsing, the address guard, and DNS."""
