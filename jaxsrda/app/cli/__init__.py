"""The command line, one file a command; `main.main` parses and runs.

Exit codes: 0 done, 2 bad input, options or resources (one line, no traceback), 130 interrupted.
"""
