"""Small inputs on which data sets once failed, run through the real validation and commands.

`python -m tests.trials FOLDER`: the folder holds the inputs, one folder a kind, and stays outside of the repository;
the kinds are tests of their own inputs in `tests/core/data`. Prints one JSON line; the exit status is 1 where a case
is wrong.
"""
