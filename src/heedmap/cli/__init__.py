"""The command line: all that reads words of a shell, and prints for one."""
