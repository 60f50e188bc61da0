"""Terminal-Bench tasks: folders with an instruction, an image and tests, of the older and the newer layout."""
