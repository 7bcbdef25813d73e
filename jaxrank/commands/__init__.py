"""Commands of the command line, one module per command; COMMANDS in cli.py lists them.

`define(values, words)` defines a command's flags, given the words of the command line, and returns
its config. `run(values, config)` returns the exit status; its docstring is the command's help.
Heavy imports wait until the flags have been checked.
"""
