"""What commands do. A module of this package is loaded when its command is called, and not before."""
