"""The address guard for programs that fetch with urllib: an opener to use instead of `urllib.request.urlopen`."""
