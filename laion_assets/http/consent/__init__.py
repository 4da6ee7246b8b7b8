"""What site owners ask of us: robots.txt, X-Robots-Tag, TDM-Reservation, Content-Usage."""
