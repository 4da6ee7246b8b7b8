"""Consent of site owners: robots.txt, X-Robots-Tag, TDM-Reservation, Content-Usage."""
