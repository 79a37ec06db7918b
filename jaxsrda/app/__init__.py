"""What a person meets: the command line, files, tables and pictures."""
