"""One file for each verb that a person runs, and the command line. No file here imports torch when it is imported."""
