"""A stand-in for the Hugging Face hub on this machine: folders served through the hub's own file interface."""
