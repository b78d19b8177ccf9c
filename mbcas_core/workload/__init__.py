"""What kind of load a container has."""
