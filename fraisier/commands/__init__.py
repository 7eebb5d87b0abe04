"""What is run on a target, as text: argv and POSIX sh scripts. Nothing here does any I/O."""
