"""What commands there are: names, options and help, without the code that carries them out."""
