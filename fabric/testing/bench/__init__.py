"""
The bench: what an operation costs, beside peers measured in the same run.

Cells are measured on each target in turn, round after round, so that a noisy
machine is noisy for all of them.  The arbiter is server CPU per operation over
the whole process tree of a target; wall-clock figures are shown beside it.
C{scripts/bench} is the command.
"""
