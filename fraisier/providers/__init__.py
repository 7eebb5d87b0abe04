"""What brings a release to a target; providers are unaware of each other."""
