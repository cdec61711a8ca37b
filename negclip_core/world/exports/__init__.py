"""The drawn world in the public data sets' own forms, so that one loader reads real and drawn data alike.

Each file makes one form from drawn pictures (`pictures.py`); `pipelines/miniature/export.py` writes them.
"""
