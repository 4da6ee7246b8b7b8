"""The guard for programs that fetch through urllib: an opener in the place of `urllib.request.urlopen`."""
