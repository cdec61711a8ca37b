"""`negclip web`: the page to play on, of Gradio's parts. A file a tab; what they do is the commands' own code."""
