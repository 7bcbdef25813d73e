"""Do these labels belong to these photos?"""

# Seconds that the permutation test, the longest part of an audit, may take.
SECONDS = 30.0
