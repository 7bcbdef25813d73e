"""The commands of the command line, a module for those that share flags.

Each defines its flags and runs. Nothing heavy is imported before the flags are known to be right.
"""
