"""The commands of the command line, a module each; COMMANDS in cli.py lists them.

`define(values, words)` defines a command's flags, given what was typed, and returns its config;
`run(values, config)` returns the exit status, and its docstring is the command's help. Nothing
heavy is imported before the flags are known to be right.
"""
