"""Do these labels belong to these photos?"""

# Seconds that an audit may take; its permutation test is the longest part.
SECONDS = 30.0
