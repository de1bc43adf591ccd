"""Published files in their official layout and names, with narrow networks and random weights; one module per source.

Each function writes what a download leaves behind: the official file names, class names, configuration files and names
of the weights. This project and its libraries save other names today, so a file that they save shows less.
"""
