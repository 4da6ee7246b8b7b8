"""What the processes of this package need of the operating system."""
