"""
The rows of the diagnostic codes, a file for each hundred.

All that is said of a code and all that steers how it is looked for stands in its row, and its text
("BH-401") nowhere else. What finds it takes the row by its name. Read `leader` first. A new code
is a row here, a function in the check file of the same name, and a case in its tests; a number is
never used again.
"""
